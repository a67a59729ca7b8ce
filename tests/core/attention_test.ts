/**
 * Tests of attention: kernels against its definition in float64, its gradients, and what it keeps in memory.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  type Data,
  dotProductAttention,
  grad,
  iota,
  jit,
  type Tensor,
  tensor,
  vmap,
  zeros,
} from "cotan";
import { checkGrads, HostTensor } from "cotan/testing";
import type { Backend } from "../../core/backend.ts";
import { createRuntime, withRuntime } from "../../core/context.ts";
import { createReferenceBackend } from "../../core/cpu/interpreter.ts";
import { createWasmBackend } from "../../core/cpu/wasm.ts";
import { fusedAttention } from "../../core/math/attention.ts";
import { assertCloseData, tolerances } from "../support/allclose.ts";
import { eachBackend } from "../support/backends.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { between, fill } from "../support/values.ts";

interface Case {
  /** Axes in front: examples. */
  readonly lead: number[];
  readonly K: number;
  readonly G: number;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  readonly causal: boolean;
  readonly window: number;
  readonly position: number;
  /** Whether the position is a tensor, and larger by one for each example. */
  readonly traced: boolean;
  /** Which keys are hidden: here and there, those before or behind some of each example's, or all of the last example's. */
  readonly hidden: "none" | "scattered" | "before" | "behind" | "all";
}

/** Sizes around those of vectors, panels, strips and blocks. */
const times = fc.oneof(
  fc.integer({ min: 1, max: 20 }),
  fc.constantFrom(47, 49, 127, 128, 129, 150, 261),
);

const cases: fc.Arbitrary<Case> = fc.record({
  lead: fc.constantFrom([], [1], [2], [2, 2]),
  K: fc.integer({ min: 1, max: 2 }),
  G: fc.integer({ min: 1, max: 3 }),
  T: times,
  S: times,
  D: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(16, 33)),
  causal: fc.boolean(),
  window: fc.constantFrom(1, 3, 37, 140, Infinity),
  position: fc.constantFrom(0, 0, 1, 5, 133),
  traced: fc.boolean(),
  hidden: fc.constantFrom("none", "scattered", "before", "behind", "all"),
});

/** From [..., T, H, D] to [..., H, T, D], or back. */
function swapHeads(x: Tensor): Tensor {
  const rank = x.shape.length;
  const perm = x.shape.map((_, i) => i);
  return x.transpose([...perm.slice(0, -3), rank - 2, rank - 3, rank - 1]);
}

/** Which keys [..., S] are shown. */
function maskOf({ lead, S, hidden }: Case): Tensor {
  const shape = [...lead, S];
  const x = upload(fill(shape, "f32", 5, between(-2, 2)));
  if (hidden === "scattered") return x.lt(0.7);
  if (hidden === "all") {
    // Of the last example no key, of others any.
    const first = x.reshape([-1, S]);
    const isOther = iota([first.shape[0]!, 1]).lt(first.shape[0]! - 1);
    return first.lt(0.7).and(isOther).reshape(shape);
  }
  // An edge of each example, between the first key and the last.
  const edge = x.slice([...lead.map(() => null), [0, 1]]).add(2).mul(S / 4);
  const key = iota([S]).cast("f32").expand(shape);
  return hidden === "before" ? key.ge(edge.sub(1)) : key.le(edge);
}

/** The position of the first query of each example, [..., 1]. */
function positionsOf({ lead, position }: Case): Tensor {
  const count = lead.reduce((a, b) => a * b, 1);
  return iota([count]).add(position).reshape([...lead, 1]);
}

/** Attention of fixed numbers, and the cotangents of q, k and v for others: by kernels, or as it is defined. */
function run(
  c: Case,
  backend: Backend,
  isDefinition = false,
): Promise<Data[]> {
  const { lead, K, G, T, S, D, hidden, traced, ...options } = c;
  const masked = hidden !== "none";
  return withRuntime(createRuntime(backend), () => {
    const value = (shape: number[], seed: number) =>
      upload(fill(shape, "f32", seed, between(-2, 2)));
    const [q, w] = [1, 4].map((seed) => value([...lead, K * G, T, D], seed));
    const [k, v] = [2, 3].map((seed) => value([...lead, K, S, D], seed));
    const mask = masked ? maskOf(c) : null;
    const given = traced ? positionsOf(c) : null;
    const position = given ?? c.position;
    const attend = (...heads: Tensor[]): Tensor => {
      const [q, k, v] = heads;
      if (isDefinition) {
        return dotProductAttention(q!, k!, v!, { ...options, mask, position });
      }
      const settings = {
        ...options,
        scale: D ** -0.5,
        masked,
        position: given ? null : c.position,
      };
      const rest = [mask, given].filter((x) => x !== null);
      const args = [...heads.map(swapHeads), ...rest];
      return swapHeads(fusedAttention(settings, args).out);
    };
    const loss = (p: { q: Tensor; k: Tensor; v: Tensor }) =>
      attend(p.q, p.k, p.v).mul(w!).sum();
    const slopes = grad(loss)({ q: q!, k: k!, v: v! });
    const found = [attend(q!, k!, v!), slopes.q, slopes.k, slopes.v];
    return Promise.all(found.map((x) => x.data()));
  });
}

const names = ["the result", "dq", "dk", "dv"];

const examples: [Case][] = [[{
  // Queries that are blind because the window has passed all keys.
  lead: [2],
  K: 1,
  G: 1,
  T: 31,
  S: 13,
  D: 3,
  causal: true,
  window: 5,
  position: 6,
  traced: true,
  hidden: "scattered",
}], [{
  // An example of which all keys are hidden, and more keys than a block.
  lead: [2],
  K: 1,
  G: 2,
  T: 20,
  S: 150,
  D: 4,
  causal: false,
  window: Infinity,
  position: 0,
  traced: false,
  hidden: "all",
}]];

for (const relaxed of [true, false]) {
  Deno.test(`kernels of attention and its gradient compute what defines them (relaxed: ${relaxed})`, () =>
    check(
      fc.asyncProperty(cases, async (c) => {
        using backend = disposing(createWasmBackend({ relaxed, threads: 1 }));
        const found = await run(c, backend);
        const expected = await run(c, createReferenceBackend("f64"), true);
        found.forEach((data, i) =>
          assertCloseData(data, expected[i]!, names[i]!, {
            ...tolerances.f32,
            terms: c.D * Math.max(c.S, c.T * c.G),
          })
        );
      }),
      40,
      examples,
    ));
}

Deno.test("any number of threads gives the same bits", () =>
  check(
    fc.asyncProperty(cases, async (c) => {
      const alone = await run(c, createWasmBackend({ threads: 1 }));
      for (const threads of [2, 3]) {
        using backend = disposing(createWasmBackend({ threads, eager: true }));
        assertEquals(await run(c, backend), alone);
      }
    }),
    5,
  ));

function disposing(backend: Backend): Backend & Disposable {
  return Object.assign(backend, {
    [Symbol.dispose]: () => backend.dispose(),
  });
}

const settings = { scale: 0.6, window: Infinity, position: 0, masked: false };
const heads = (shape: number[], seed: number) => {
  const { data } = fill(shape, "f32", seed, between(-2, 2));
  return new HostTensor(shape, "f32", data);
};

for (const causal of [false, true]) {
  Deno.test(`the rule of the gradient agrees with differences to the second order (causal: ${causal})`, () =>
    checkGrads((q: Tensor, k: Tensor, v: Tensor) => {
      const { out, logSum } = fusedAttention({ ...settings, causal }, [
        q,
        k,
        v,
      ]);
      return out.sum().add(logSum.square().sum()).add(out.square().sum());
    }, [
      heads([3, 2, 2], 1),
      heads([4, 1, 2], 2),
      heads([4, 1, 2], 3),
    ], { order: 2 }));
}

eachBackend(
  "an example of a batch is attended alone, and scores that overflow stay in their row",
  async () => {
    const q = tensor([[[[1e30], [1]]], [[[1], [2]]]]);
    const k = tensor([[[[1e30], [1]]], [[[1], [0]]]]);
    const f = (q: Tensor, k: Tensor) =>
      dotProductAttention(q, k, k, { causal: true, scale: 1 });
    const both = await vmap(f)(q, k).data();
    assertEquals([...both].map(Number.isNaN), [true, false, false, false]);
    assertEquals(both[2], 1);
  },
);

Deno.test("a step of 1024 tokens takes less memory than the scores of a head", () => {
  withRuntime(createRuntime(createWasmBackend()), () => {
    const T = 1024;
    const x = upload(fill([1, 1, T, 64], "f32", 1));
    using step = jit((x: Tensor) =>
      grad((x: Tensor) =>
        dotProductAttention(x, x.mul(2), x, { causal: true }).square().sum()
      )(x)
    );
    const { peakBytes } = step.program(x);
    assert(peakBytes < T * T * 4, `${peakBytes} bytes`);
  });
});

Deno.test("no pass over padded examples keeps the scores of all heads, forward or backward", () => {
  withRuntime(createRuntime(createWasmBackend()), () => {
    const [B, H, T, D] = [2, 4, 256, 16] as const;
    const x = upload(fill([B, H, T, D], "f32", 1));
    const mask = upload(fill([B, T], "f32", 2)).gt(0);
    const attend = (x: Tensor, mask: Tensor) =>
      dotProductAttention(x, x.mul(2), x, { mask });
    using forward = jit(attend);
    using step = jit((x: Tensor, mask: Tensor) =>
      grad((x: Tensor) => attend(x, mask).square().sum())(x)
    );
    for (
      const { peakBytes } of [forward, step].map((f) => f.program(x, mask))
    ) {
      assert(peakBytes < B * H * T * T * 4, `${peakBytes} bytes`);
    }
  });
});

/** Whether attention of zeros to themselves is a kernel. */
function isKernel(
  shape: number[],
  options: { causal?: boolean; position?: number | Tensor } = {},
): boolean {
  using f = jit((x: Tensor) => dotProductAttention(x, x, x, options));
  return f.program(zeros(shape)).kernels.some(({ kind }) => kind === "fused");
}

Deno.test("attention is a kernel where that is faster, or as fast and smaller", () => {
  using backend = disposing(createWasmBackend());
  withRuntime(createRuntime(backend), () => {
    const causal = { causal: true };
    assertEquals(isKernel([16, 2, 16, 4], causal), true);
    assertEquals(isKernel([16, 2, 15, 4], causal), false);
    const late = { causal: true, position: 16 };
    assertEquals(isKernel([16, 2, 16, 4], late), false);
    const traced = { causal: true, position: tensor([16], { dtype: "i32" }) };
    assertEquals(isKernel([16, 2, 16, 4], traced), true);
    assertEquals(isKernel([1, 127, 2]), false);
    assertEquals(isKernel([1, 128, 2]), true);
  });
});

Deno.test("beside a BLAS attention that hides nothing is a kernel only where its scores are large", () => {
  using backend = disposing(createWasmBackend());
  const limits = { ...backend.limits, hasBlas: true };
  withRuntime(createRuntime(Object.assign(backend, { limits })), () => {
    assertEquals(isKernel([1, 1023, 2]), false);
    assertEquals(isKernel([1, 1024, 2]), true);
    assertEquals(isKernel([1, 16, 2], { causal: true }), true);
  });
});
