/**
 * Llama against the golden files: logits, loss, every gradient by name, training losses, greedy generation.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { jit, type Tensor, tensor, tree, valueAndGrad } from "cotan";
import {
  adamw,
  applyUpdates,
  crossEntropy,
  fromPretrained,
  generate,
  type Model,
} from "cotan/nn";
import { assertCloseData, relativeError } from "../support/allclose.ts";
import { eachBackend, inFloat64, withThreads } from "../support/backends.ts";
import {
  goldenUrl,
  hasGolden,
  readJson,
  readTensors,
} from "../support/golden.ts";

/** What inputs.json and expected.json hold that is used here. */
interface Inputs {
  readonly input_ids: number[][];
  readonly attention_mask: number[][];
  readonly labels: number[][];
  readonly adamw: {
    readonly lr: number;
    readonly betas: [number, number];
    readonly eps: number;
    readonly weight_decay: number;
  };
  readonly greedy: {
    readonly prompt_ids: number[];
    readonly new_tokens: number;
  };
}
interface Expected {
  readonly loss: number;
  readonly adamw_losses: number[];
  readonly greedy_ids: number[];
}

/** Largest relative errors. */
interface Tolerances {
  readonly loss: number;
  readonly logits: number;
  readonly grad: number;
  readonly training: number;
}

const inFloat32: Tolerances = {
  loss: 2e-6,
  logits: 1e-5,
  grad: 1e-4,
  training: 1e-4,
};

/** The files hold logits and gradients as float32, losses in full. */
const exact: Tolerances = {
  loss: 1e-9,
  logits: 2e-7,
  grad: 2e-7,
  training: 1e-9,
};

type Loss = (
  params: tree.Tree,
  ids: Tensor,
  mask: Tensor,
  labels: Tensor,
) => Tensor;

/** Mean cross entropy of each next token. */
function lossOf(model: Model): Loss {
  return (params, ids, mask, labels) => {
    const T = ids.shape[1]!;
    const logits = model.apply(params, ids, { mask });
    return crossEntropy(
      logits.slice([null, [0, T - 1]]),
      labels.slice([null, [1, T]]),
    );
  };
}

function ints(rows: number[][]): Tensor {
  return tensor(rows, { dtype: "i32" });
}

function assertRelative(
  actual: number,
  expected: number,
  rtol: number,
  what: string,
): void {
  const error = Math.abs(actual - expected) /
    Math.max(1e-30, Math.abs(expected));
  assert(
    error <= rtol,
    `${what} is ${actual}, expected ${expected}: off by ${error}`,
  );
}

async function checkCase(
  name: string,
  t: Deno.TestContext,
  tolerances: Tolerances,
): Promise<void> {
  const folder = `golden/${name}`;
  const inputs = readJson<Inputs>(`${folder}/inputs.json`);
  const expected = readJson<Expected>(`${folder}/expected.json`);
  const tensors = readTensors(`${folder}/expected.safetensors`);
  const { model, params } = await fromPretrained(goldenUrl(folder), {
    tokenizer: false,
  });
  const loss = lossOf(model);
  const ids = ints(inputs.input_ids);
  const mask = ints(inputs.attention_mask);
  const labels = ints(inputs.labels);

  await t.step("logits of real tokens", async () => {
    using logits = model.apply(params, ids, { mask });
    const actual = await logits.data();
    const { data } = tensors.get("logits")!;
    const V = logits.shape[2]!;
    const real = inputs.attention_mask.flat();
    const kept = (list: ArrayLike<number>): number[] =>
      Array.from(list).filter((_, i) => real[Math.floor(i / V)]);
    const largest = kept(data).reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    const atol = tolerances.logits * (1e-3 + largest);
    assertCloseData(kept(actual), kept(data), "logits", { rtol: 0, atol });
  });

  await t.step("loss and every gradient", async () => {
    using step = jit(valueAndGrad(loss));
    const { value, grads } = step(params, ids, mask, labels);
    assertRelative(await value.item(), expected.loss, tolerances.loss, "loss");
    const leaves = tree.leaves(grads);
    const names = [...tensors.keys()].filter((key) => key.startsWith("grad."));
    assertEquals(
      leaves.map(({ path }) => `grad.${path}`).toSorted(),
      names.toSorted(),
    );
    for (const { path, leaf } of leaves) {
      const error = relativeError(
        await leaf.data(),
        tensors.get(`grad.${path}`)!.data,
      );
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
        const { value, grads } = valueAndGrad(loss)(params, ids, mask, labels);
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

  await t.step("greedy ids", async () => {
    const { prompt_ids, new_tokens } = inputs.greedy;
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
for (const name of ["llama-tiny", "stories260K"]) {
  const what =
    `${name} has the golden logits, gradients, training losses and greedy ids`;
  inFloat64(what, (t) => checkCase(name, t, exact), ignore);
  eachBackend(
    what,
    (_, t) => checkCase(name, t, inFloat32),
    withThreads,
    ignore,
  );
}
