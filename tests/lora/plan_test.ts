/**
 * What a training step of adapters computes, read from its plan.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  jit,
  type Program,
  random,
  type Shape,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
} from "cotan";
import { isAdapter, lora, type LoraOptions, withDropout } from "cotan/lora";
import { crossEntropy, gpt2, type GPT2Params } from "cotan/nn";
import { createRuntime, withRuntime } from "../../core/context.ts";
import type { Plan } from "../../core/plan/kernel.ts";
import { unflatten } from "../../nn/models/parameters.ts";
import { createPlanBackend } from "../support/plan_interpreter.ts";
import { unlimited } from "../support/programs.ts";

/** How a step is made. */
interface StepOptions extends Partial<LoraOptions> {
  readonly layers: number;
  readonly channels: number;
  readonly time: number;
}

const vocabulary = 11;

/** The program of a loss and the gradients of leaves of a GPT-2, and its plan. */
function planOf(
  { layers, channels, time, ...changes }: StepOptions,
  trained: ((path: string) => boolean) | null,
  isTuned = true,
): { program: Program; plan: Plan } {
  const plans: Plan[] = [];
  const backend = createPlanBackend(unlimited, (plan) => plans.push(plan));
  return withRuntime(createRuntime(backend), () => {
    const model = gpt2({
      vocab_size: vocabulary,
      n_positions: time,
      n_embd: channels,
      n_layer: layers,
      n_head: channels / (channels > 64 ? 64 : 8),
    });
    const base = unflatten(
      Object.entries(model.shapes).map((
        [path, shape],
      ) => [path, nothing(shape)]),
    ) as GPT2Params;
    const key = random.key(2);
    const params = !isTuned ? base : lora(base, {
      targets: "c_attn",
      parts: { c_attn: [true, false, true] },
      rank: 8,
      alpha: 16,
      key,
      ...changes,
    });
    const [own, rest] = tree.partition(params, trained ?? (() => false));
    const ids = random.randint(key, [1, time], { high: vocabulary });
    const loss = (t: GPT2Params, f: GPT2Params) => {
      const merged = tree.merge(t, f);
      const used = isTuned ? withDropout(merged, key) : merged;
      const logits = model.apply(used, ids).reshape([-1, vocabulary]);
      return crossEntropy(logits, ids.reshape([-1]));
    };
    using step = jit((t: GPT2Params, f: GPT2Params): tree.Tree => {
      if (!trained) return loss(t, f);
      const { value, grads } = valueAndGrad(loss)(t, f);
      return [value, grads];
    });
    return { program: step.program(own, rest), plan: plans.at(-1)! };
  });
}

/** Zeros, without a program that makes them. */
function nothing(shape: Shape): Tensor {
  const size = shape.reduce((n, d) => n * d, 1);
  return tensor(new Float32Array(size), { shape });
}

/** The most elements that a kernel of a plan writes to one buffer. */
function largestValue(plan: Plan): number {
  const arena = plan.steps.flatMap(({ buffers }) =>
    buffers.flatMap((place) => place.kind === "arena" ? [place.bytes / 4] : [])
  );
  const outputs = plan.outputs.flatMap((output) =>
    output.kind === "new" ? [output.size] : []
  );
  return Math.max(...arena, ...outputs);
}

const small = { layers: 2, channels: 24, time: 5, rank: 2 };

Deno.test("no change of a weight and no gradient of a frozen one is ever formed", () => {
  const weight = small.channels ** 2; // The smallest one.
  const variants: Partial<LoraOptions>[] = [
    {},
    { parts: {} },
    { dropout: 0.1 },
    { targets: ["c_attn", "c_proj", "c_fc"], parts: {} },
    { dora: true },
    { dora: true, parts: {} },
    { bias: "all" },
  ];
  for (const changes of variants) {
    const { plan } = planOf({ ...small, ...changes }, isAdapter);
    const largest = largestValue(plan);
    assert(
      largest < weight,
      `${largest} of ${weight}: ${Deno.inspect(changes)}`,
    );
  }
  // It would show: a gradient of one weight is that large.
  const { plan } = planOf(small, (path) => path.endsWith("1.mlp.c_fc.weight"));
  assertEquals(largestValue(plan), 4 * weight);
});

Deno.test("a step of rank 8 on queries and values costs at most 1.08 of the frozen model's passes", () => {
  const size = { layers: 2, channels: 768, time: 64 };
  const { program } = planOf(size, isAdapter);
  // The gradient of the first fused bias needs those of all that lies above, and no other.
  const first = (path: string) => path === "transformer.h.0.attn.c_attn.bias";
  const frozen = planOf(size, first, false).program;
  const forward = planOf(size, null, false).program;
  assert(frozen.flops > 1.7 * forward.flops);
  const ratio = program.flops / frozen.flops;
  assert(ratio > 1 && ratio <= 1.08, `${ratio}`);
});

Deno.test("below the first adapted layer nothing is differentiated", () => {
  const flops = (layers: number, trained: typeof isAdapter | null) => {
    const targets = `**.${layers - 1}.attn.c_attn`;
    const options = { ...small, layers, targets, parts: {} };
    return planOf(options, trained).program.flops;
  };
  // A layer more below the adapted one costs its forward pass alone.
  const step = flops(3, isAdapter) - flops(2, isAdapter);
  const forward = flops(3, null) - flops(2, null);
  assertEquals(step, forward);
});
