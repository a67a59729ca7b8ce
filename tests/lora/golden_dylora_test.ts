/**
 * DyLoRA against results of its authors' code: logits, losses and gradients at every rank in both modes, and training.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  jit,
  random,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
  zeros,
} from "cotan";
import {
  atEachRank,
  atRank,
  dylora,
  isAdapter,
  mergeAdapters,
  truncate,
} from "cotan/lora";
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
  goldenUrl,
  hasGolden,
  readJson,
  readTensors,
} from "../support/golden.ts";

const folder = "golden/dylora-bert";
const R = 8;
const allRanks = Array.from({ length: R }, (_, i) => i + 1);

interface Given extends Inputs, Training {
  readonly train_ranks_b: number[];
  readonly dylora: { readonly lora_alpha: number; readonly target: string };
}

interface Run {
  readonly losses: number[];
  readonly eval_loss_after_by_b: number[];
}

interface Expected {
  readonly ranks: Record<string, { readonly loss: number }>;
  readonly train_frozen: Run;
  readonly train_unfrozen: Run;
}

/** The ranks at which weights are merged: one after another, and so slow on a GPU. */
type Merging = Tolerances & { readonly merged: readonly number[] };

/** The name in the files of a leaf at a path. */
function nameOf(path: string): string {
  return path.replace(
    /\.lora\.([ab])$/,
    (_, f) => `.lora_${f.toUpperCase()}`,
  );
}

const integer = (value: number) => tensor(value, { dtype: "i32" });

async function checkMode(
  mode: "frozen" | "full",
  t: Deno.TestContext,
  tolerances: Merging,
): Promise<void> {
  const inputs = readJson<Given>(`${folder}/inputs.json`);
  const expected = readJson<Expected>(`${folder}/expected.json`);
  const tensors = readTensors(`${folder}/expected.safetensors`);
  const factors = readTensors(`${folder}/adapter.safetensors`);
  const { model, params, config } = await fromPretrained(goldenUrl(folder), {
    tokenizer: false,
  });
  const fresh = dylora(params, {
    targets: inputs.dylora.target,
    rank: R,
    alpha: inputs.dylora.lora_alpha,
    key: random.key(0),
    mode,
  });
  const [own, rest] = tree.partition(fresh, isAdapter);
  const given = tree.fromLeaves(
    own,
    tree.leaves(own).map(({ path }) => {
      const { data, shape } = factors.get(nameOf(path))!;
      return tensor(data, { shape });
    }),
  );
  const tuned = tree.merge(given, rest);
  const batch = batchOf(inputs, config);
  const { ids, labels: _, ...options } = batch;
  const loss = lossOf(model, config);
  const objective = (t: tree.Tree, f: tree.Tree, b: Tensor) =>
    loss(atRank(tree.merge(t, f), b), batch);
  const name = mode === "full" ? "unfrozen" : "frozen";

  async function assertClose(
    actual: Tensor,
    key: string,
    most: number,
  ): Promise<void> {
    const error = relativeError(await actual.data(), tensors.get(key)!.data);
    assert(error <= most, `${key} is off by ${error}`);
  }

  await t.step(
    "logits, loss and gradients at every rank by one program",
    async () => {
      const [learned, frozen] = tree.partition(
        tuned,
        (path) => isAdapter(path) || path.startsWith("classifier."),
      );
      using apply = jit((tuned: tree.Tree, b: Tensor) =>
        model.apply(atRank(tuned, b), ids, options)
      );
      let traces = 0;
      using step = jit((t: tree.Tree, f: tree.Tree, b: Tensor) => {
        traces++;
        return valueAndGrad(objective)(t, f, b);
      });
      for (const b of allRanks) {
        const { value, grads } = step(learned, frozen, integer(b));
        const { loss } = expected.ranks[b]!;
        assertRelative(await value.item(), loss, tolerances.loss, `loss ${b}`);
        for (const { path, leaf } of tree.leaves(grads)) {
          const key = `b${b}.${name}.grad.${nameOf(path)}`;
          await assertClose(leaf, key, tolerances.grad);
        }
        using logits = apply(tuned, integer(b));
        await assertClose(logits, `b${b}.logits`, tolerances.states);
      }
      assertEquals(traces, 1);
    },
  );

  await t.step("merged weights at every rank", async () => {
    for (const b of tolerances.merged) {
      const merged = tree.leaves(mergeAdapters(truncate(tuned, b)));
      const prefix = `b${b}.merged.`;
      const key = [...tensors.keys()].find((key) => key.startsWith(prefix))!;
      const found = merged.find(({ path }) => prefix + path === key)!;
      await assertClose(found.leaf, key, tolerances.states);
    }
  });

  await t.step(
    "losses of AdamW from b = 0 at ranks drawn, and at every rank after it",
    async () => {
      const { lr, betas: [b1, b2], eps, weight_decay: weightDecay } =
        inputs.adamw;
      // Not `rankwise`: the authors let the rows that are not trained move by momentum and decay.
      const optimizer = adamw({ learningRate: lr, b1, b2, eps, weightDecay });
      type State = ReturnType<typeof optimizer.init>;
      using step = jit(
        (t: tree.Tree, state: State, f: tree.Tree, b: Tensor) => {
          const { value, grads } = valueAndGrad(objective)(t, f, b);
          const { updates, state: next } = optimizer.update(grads, state, t);
          return { t: applyUpdates(t, updates), state: next, value };
        },
        { donate: [0, 1] },
      );
      let current = tree.fromLeaves(
        given,
        tree.leaves(given).map(({ path, leaf }): Tensor =>
          path.endsWith(".b") ? zeros(leaf.shape) : leaf.mul(1)
        ),
      );
      let state = optimizer.init(current);
      const run = expected[`train_${name}`];
      for (const [k, b] of inputs.train_ranks_b.entries()) {
        const out = step(current, state, rest, integer(b));
        current = out.t;
        state = out.state;
        assertRelative(
          await out.value.item(),
          run.losses[k]!,
          tolerances.training,
          `loss after ${k} steps`,
        );
      }
      const score = (t: tree.Tree) => loss(t, batch);
      const losses = atEachRank(score, tree.merge(current, rest), allRanks);
      for (const [i, value] of (await losses.data()).entries()) {
        assertRelative(
          value,
          run.eval_loss_after_by_b[i]!,
          tolerances.training,
          `loss at rank ${i + 1}`,
        );
      }
    },
  );
}

const ignore = !hasGolden;
for (const mode of ["frozen", "full"] as const) {
  const what = `DyLoRA, mode ${mode}, has the golden values`;
  inFloat64(
    what,
    (t) => checkMode(mode, t, { ...exact, merged: allRanks }),
    ignore,
  );
  eachBackend(
    what,
    (_, t) => checkMode(mode, t, { ...inFloat32, merged: [3] }),
    undefined,
    ignore,
  );
}
