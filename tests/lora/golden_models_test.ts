/**
 * Adapted models against the golden files: logits, loss, gradients of the factors, training, and merged weights.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { jit, type Tensor, tree, valueAndGrad, zeros } from "cotan";
import { isAdapter, loadLoralib, mergeAdapters, verifyMerge } from "cotan/lora";
import { adamw, applyUpdates, fromPretrained } from "cotan/nn";
import { batchOf, type Inputs, lossOf } from "../golden/losses.ts";
import {
  assertRelative,
  exact,
  inFloat32,
  type Tolerances,
  type Training,
} from "../golden/tolerances.ts";
import { relativeError } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  type GoldenTensor,
  goldenUrl,
  hasGolden,
  readJson,
  readTensors,
} from "../support/golden.ts";

/** Folders of golden files. */
const cases = ["lora-bert-linear", "lora-gpt2-mergedlinear"] as const;

/** What inputs.json holds beside the inputs. */
interface Given extends Training {
  readonly lora: {
    readonly r: number;
    readonly lora_alpha: number;
    /** A glob. */
    readonly target: string;
    /** Which slices are adapted. */
    readonly enable_lora?: boolean[];
  };
}
interface Expected {
  readonly loss: number;
  readonly adamw_losses: number[];
}

/** The name of a factor in the files, and which of its equal parts it is: those of slices lie below one another. */
function placeOf(
  path: string,
  parts: readonly boolean[],
): { name: string; part: number; of: number } {
  const [, module, slice, factor] = /^(.*)\.lora\.(?:(\d+)\.)?([ab])$/
    .exec(path)!;
  const of = parts.filter((part) => part).length;
  const part = parts.slice(0, Number(slice ?? 0)).filter((part) => part).length;
  return { name: `${module}.lora_${factor!.toUpperCase()}`, part, of };
}

function partOf(
  tensors: ReadonlyMap<string, GoldenTensor>,
  name: string,
  { part, of }: { part: number; of: number },
): GoldenTensor {
  const { data, dtype, shape: [rows, ...rest] } = tensors.get(name)!;
  const size = data.length / of;
  return {
    dtype,
    shape: [rows! / of, ...rest],
    data: data.slice(part * size, (part + 1) * size),
  };
}

async function checkCase(
  name: string,
  t: Deno.TestContext,
  tolerances: Tolerances,
): Promise<void> {
  const folder = `golden/${name}`;
  const inputs = readJson<Inputs & Given>(`${folder}/inputs.json`);
  const expected = readJson<Expected>(`${folder}/expected.json`);
  const tensors = readTensors(`${folder}/expected.safetensors`);
  const { model, params, config } = await fromPretrained(goldenUrl(folder), {
    tokenizer: false,
  });
  const { r, lora_alpha, target, enable_lora: parts = [true] } = inputs.lora;
  const last = target.slice(target.lastIndexOf(".") + 1);
  const file = goldenUrl(`${folder}/adapter.safetensors`);
  const adapted = await loadLoralib(file, params, {
    rank: r,
    alpha: lora_alpha,
    ...(parts.length > 1 && { parts: { [last]: parts } }),
  });
  const [trainable, frozen] = tree.partition(adapted, isAdapter);
  const loss = lossOf(model, config);
  const batch = batchOf(inputs, config);
  const { ids, labels: _, ...options } = batch;
  const real = inputs.attention_mask.flat();

  /** Compares what [B, T, ...] or [B, ...] holds of real tokens. */
  function assertLogits(actual: ArrayLike<number>, name: string): void {
    const { data, shape } = tensors.get(name)!;
    const width = shape.length === 3 ? shape[2]! : data.length;
    const kept = (list: ArrayLike<number>): number[] =>
      Array.from(list).filter((_, i) => real[Math.floor(i / width)]);
    const error = relativeError(kept(actual), kept(data));
    assert(error <= tolerances.states, `${name} are off by ${error}`);
  }

  const objective = (t: tree.Tree, f: tree.Tree) =>
    loss(tree.merge(t, f), batch);

  await t.step("logits", async () => {
    using logits = model.apply(adapted, ids, options);
    assertLogits(await logits.data(), "logits");
  });

  await t.step("loss, and gradients of the factors alone", async () => {
    using step = jit(valueAndGrad(objective));
    const { value, grads } = step(trainable, frozen);
    assertRelative(await value.item(), expected.loss, tolerances.loss, "loss");
    const leaves = tree.leaves(grads);
    assertEquals(leaves.length, tree.leaves(trainable).length);
    for (const { path, leaf } of leaves) {
      const { name, ...place } = placeOf(path, parts);
      const { data } = partOf(tensors, `grad.${name}`, place);
      const error = relativeError(await leaf.data(), data);
      assert(
        error <= tolerances.grad,
        `the gradient of ${path} is off by ${error}`,
      );
    }
  });

  await t.step("losses of AdamW from b = 0", async () => {
    const { lr, betas: [b1, b2], eps, weight_decay: weightDecay } =
      inputs.adamw;
    const optimizer = adamw({ learningRate: lr, b1, b2, eps, weightDecay });
    using step = jit(
      (
        t: tree.Tree,
        state: ReturnType<typeof optimizer.init>,
        f: tree.Tree,
      ) => {
        const { value, grads } = valueAndGrad(objective)(t, f);
        const { updates, state: next } = optimizer.update(grads, state, t);
        return { t: applyUpdates(t, updates), state: next, value };
      },
      { donate: [0, 1] },
    );
    let current = tree.fromLeaves(
      trainable,
      tree.leaves(trainable).map(({ path, leaf }): Tensor =>
        path.endsWith(".b") ? zeros(leaf.shape) : leaf.mul(1)
      ),
    );
    let state = optimizer.init(current);
    for (const [k, wanted] of expected.adamw_losses.entries()) {
      const out = step(current, state, frozen);
      current = out.t;
      state = out.state;
      const what = `loss after ${k} steps`;
      assertRelative(
        await out.value.item(),
        wanted,
        tolerances.training,
        what,
      );
    }
  });

  await t.step("merged weights, and the logits of these", async () => {
    const merged = mergeAdapters(adapted);
    const weights = new Map(
      tree.leaves(merged).map(({ path, leaf }) => [path, leaf]),
    );
    const names = [...tensors.keys()].filter((key) =>
      key.startsWith("merged.")
    );
    assert(names.length > 0);
    for (const name of names) {
      const actual = await weights.get(name.slice("merged.".length))!.data();
      const error = relativeError(actual, tensors.get(name)!.data);
      assert(error <= tolerances.states, `${name} is off by ${error}`);
    }
    using logits = model.apply(merged, ids, options);
    assertLogits(await logits.data(), "merged_logits");
    const apply = (p: tree.Tree) => model.apply(p, ids, options);
    const { relative } = await verifyMerge(apply, adapted);
    assert(relative <= tolerances.states, `merging changes by ${relative}`);
  });
}

const ignore = !hasGolden;
for (const name of cases) {
  const what = `${name} has the golden logits, gradients, losses and weights`;
  inFloat64(what, (t) => checkCase(name, t, exact), ignore);
  eachBackend(what, (_, t) => checkCase(name, t, inFloat32), undefined, ignore);
}
