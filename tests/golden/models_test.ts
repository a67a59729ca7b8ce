/**
 * Models against the golden files: hidden states, logits, loss, every gradient by name, training losses, greedy ids.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { jit, tree, valueAndGrad } from "cotan";
import { adamw, applyUpdates, fromPretrained, generate } from "cotan/nn";
import { relativeError } from "../support/allclose.ts";
import { eachBackend, inFloat64, withThreads } from "../support/backends.ts";
import {
  goldenUrl,
  hasGolden,
  readJson,
  readTensors,
} from "../support/golden.ts";
import { batchOf, type Inputs, lossOf } from "./losses.ts";
import {
  assertRelative,
  exact,
  inFloat32,
  type Tolerances,
  type Training,
} from "./tolerances.ts";

/** Folders of golden files. */
const cases: readonly string[] = [
  "bert-tiny-mlm",
  "bert-tiny-seqcls",
  "gpt2-tiny",
  "llama-tiny",
  "roberta-tiny-regression",
  "roberta-tiny-seqcls",
  "stories260K",
];

/** What inputs.json holds beside the inputs, and expected.json. */
interface Given extends Training {
  readonly greedy?: {
    readonly prompt_ids: number[];
    readonly new_tokens: number;
  };
}
interface Expected {
  readonly loss: number;
  readonly adamw_losses: number[];
  /** Norm of all gradients before each step. */
  readonly grad_norms: number[];
  /** Parameters that the loss does not depend on: the biases of keys. */
  readonly zero_grad_params: string[];
  readonly greedy_ids?: number[];
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
  const loss = lossOf(model, config);
  const batch = batchOf(inputs, config);
  const { ids, labels: _, ...options } = batch;

  /** Compares what [B, T, ...] or [B, ...] holds of real tokens, by its norm and by its largest element. */
  function assertStates(actual: ArrayLike<number>, name: string): void {
    const { data, shape } = tensors.get(name)!;
    assertEquals(actual.length, data.length, name);
    const width = shape.length === 3 ? shape[2]! : data.length;
    const real = inputs.attention_mask.flat();
    const kept = (list: ArrayLike<number>): number[] =>
      Array.from(list).filter((_, i) => real[Math.floor(i / width)]);
    const [a, b] = [kept(actual), kept(data)];
    const largest = (list: number[]): number =>
      list.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    const gap = largest(a.map((x, i) => x - b[i]!)) / (1e-3 + largest(b));
    const error = Math.max(gap, relativeError(a, b));
    assert(error <= tolerances.states, `${name} is off by ${error}`);
  }

  await t.step("logits, and hidden states of real tokens", async () => {
    using logits = model.apply(params, ids, options);
    assertStates(await logits.data(), "logits");
    const hidden = model.hidden(params, ids, options);
    const names = [...tensors.keys()].filter((key) =>
      key.startsWith("hidden.")
    );
    assertEquals(hidden.length, names.length);
    for (const [i, state] of hidden.entries()) {
      const isLast = i === hidden.length - 1 && tensors.has("hidden.final");
      assertStates(await state.data(), `hidden.${isLast ? "final" : i}`);
      state.dispose();
    }
  });

  await t.step("loss and every gradient", async () => {
    using step = jit(valueAndGrad(loss));
    const { value, grads } = step(params, batch);
    assertRelative(await value.item(), expected.loss, tolerances.loss, "loss");
    const leaves = tree.leaves(grads);
    const names = [...tensors.keys()].filter((key) => key.startsWith("grad."));
    assertEquals(
      leaves.map(({ path }) => `grad.${path}`).toSorted(),
      names.toSorted(),
    );
    for (const { path, leaf } of leaves) {
      const { data } = tensors.get(`grad.${path}`)!;
      // Rounding alone is left of a gradient of 0: it is little beside the others.
      const floor = expected.zero_grad_params.includes(path)
        ? expected.grad_norms[0]
        : undefined;
      const error = relativeError(await leaf.data(), data, floor);
      assert(
        error <= tolerances.grad,
        `the gradient of ${path} is off by ${error}`,
      );
    }
  });

  await t.step("eleven losses of AdamW", async () => {
    const { lr, betas: [b1, b2], eps, weight_decay: weightDecay } =
      inputs.adamw;
    const optimizer = adamw({ learningRate: lr, b1, b2, eps, weightDecay });
    using step = jit(
      (params: tree.Tree, state: ReturnType<typeof optimizer.init>) => {
        const { value, grads } = valueAndGrad(loss)(params, batch);
        const { updates, state: next } = optimizer.update(grads, state, params);
        return { params: applyUpdates(params, updates), state: next, value };
      },
      { donate: [0, 1] },
    );
    // The first step takes copies, since it consumes what it gets.
    let current = tree.map((x) => x.mul(1), params);
    let state = optimizer.init(params);
    for (const [k, wanted] of expected.adamw_losses.entries()) {
      const out = step(current, state);
      current = out.params;
      state = out.state;
      assertRelative(
        await out.value.item(),
        wanted,
        tolerances.training,
        `loss after ${k} steps`,
      );
    }
  });

  if (!inputs.greedy) return;
  const { prompt_ids, new_tokens } = inputs.greedy;
  await t.step("greedy ids", async () => {
    const tokens = generate(model, params, prompt_ids, {
      maxNewTokens: new_tokens,
    });
    assertEquals(
      [...prompt_ids, ...await Array.fromAsync(tokens)],
      expected.greedy_ids,
    );
  });
}

const ignore = !hasGolden;
for (const name of cases) {
  const what =
    `${name} has the golden states, logits, gradients, training losses and greedy ids`;
  inFloat64(what, (t) => checkCase(name, t, exact), ignore);
  eachBackend(
    what,
    (_, t) => checkCase(name, t, inFloat32),
    withThreads,
    ignore,
  );
}
