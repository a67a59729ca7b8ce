import { assert, assertEquals, assertThrows } from "@std/assert";
import { grad, jit, ShapeError, type Tensor, tensor, zeros } from "cotan";
import fc from "fast-check";
import { attention } from "cotan/nn";
import { assertClose, useOracle, values, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

interface Case {
  B: number;
  K: number;
  G: number;
  T: number;
  S: number;
  D: number;
  causal: boolean;
  /** Of all rows, or of each. */
  position: number | number[];
  window: number;
  mask: number[] | null;
}

/** The formula, one query after another. */
function naive(c: Case): number[] {
  const { B, K, G, T, S, D, causal, position, window, mask } = c;
  const H = K * G;
  const q = values(B * H * T * D, 1), k = values(B * K * S * D, 2);
  const v = values(B * K * S * D, 3);
  const out: number[] = [];
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      const kv = (b * K + Math.floor(h / G)) * S;
      for (let t = 0; t < T; t++) {
        const weights = Array.from({ length: S }, (_, s) => {
          const at = t + (Array.isArray(position) ? position[b]! : position);
          if (causal && (s > at || s <= at - window)) return 0;
          if (mask && mask[b * S + s] === 0) return 0;
          let score = 0;
          for (let d = 0; d < D; d++) {
            score += q[((b * H + h) * T + t) * D + d]! * k[(kv + s) * D + d]!;
          }
          return Math.exp(score / Math.sqrt(D));
        });
        const total = weights.reduce((sum, w) => sum + w, 0) || 1;
        for (let d = 0; d < D; d++) {
          let sum = 0;
          weights.forEach((w, s) => sum += w / total * v[(kv + s) * D + d]!);
          out.push(sum);
        }
      }
    }
  }
  return out;
}

const small = fc.integer({ min: 1, max: 4 });
const offset = fc.integer({ min: 0, max: 3 });

function exactly<T>(size: number, of: fc.Arbitrary<T>): fc.Arbitrary<T[]> {
  return fc.array(of, { minLength: size, maxLength: size });
}

const cases: fc.Arbitrary<Case> = fc.record({
  B: fc.integer({ min: 1, max: 3 }),
  K: fc.integer({ min: 1, max: 3 }),
  G: fc.integer({ min: 1, max: 3 }),
  T: small,
  S: small,
  D: small,
  causal: fc.boolean(),
  window: fc.constantFrom(1, 2, 3, Infinity),
}).chain((sizes) =>
  fc.record({
    mask: fc.option(exactly(sizes.B * sizes.S, fc.constantFrom(0, 1))),
    position: fc.oneof(offset, exactly(sizes.B, offset)),
  }).map((rest) => ({ ...sizes, ...rest }))
);

Deno.test("attention equals the naive formula for all heads, masks and positions", async () => {
  await fc.assert(
    fc.asyncProperty(cases, async (c) => {
      const { B, K, G, T, S, D, causal, window } = c;
      const position = Array.isArray(c.position)
        ? tensor(Int32Array.from(c.position))
        : c.position;
      const mask = c.mask &&
        tensor(Int32Array.from(c.mask), { shape: [B, S] });
      const y = attention(
        varied([B, K * G, T, D], 1),
        varied([B, K, S, D], 2),
        varied([B, K, S, D], 3),
        { causal, position, window, mask },
      );
      await assertClose(y, naive(c), { shape: [B, K * G, T, D] });
    }),
    { numRuns: 100 },
  );
});

Deno.test("a scale replaces 1 / √D, and a bool mask does what numbers do", async () => {
  const [q, k, v] = [1, 2, 3].map((seed) => varied([1, 2, 3, 4], seed));
  const y = attention(q!, k!, v!, {
    scale: 1 / 2,
    mask: tensor([[true, false, true]]),
  });
  const z = attention(q!, k!, v!, { mask: tensor([[1, 0, 1]]) });
  await assertClose(y, await z.data());
});

Deno.test("what a hidden key holds changes no bit of the result", async () => {
  const q = varied([1, 1, 2, 2], 1), mask = tensor([[1, 0]]);
  const plain = varied([1, 1, 2, 2], 2);
  const other = plain.add(tensor([[0, 0], [1e6, -1e6]]));
  assertEquals(
    await attention(q, plain, plain, { mask }).data(),
    await attention(q, other, other, { mask }).data(),
  );
});

Deno.test("a query that sees no key gives zeros and zero gradients, not NaN", async () => {
  const x = varied([1, 1, 3, 2]), mask = tensor([[0, 0, 1]]);
  const f = (x: Tensor) => attention(x, x, x, { causal: true, mask });
  const y = await f(x).data();
  assertEquals([...y.subarray(0, 4)], [0, 0, 0, 0]);
  const g = await grad((x) => f(x).square().sum())(x).data();
  assert(g.every(Number.isFinite));
});

Deno.test("the position may be traced, so that one program serves every step", async () => {
  const [q, k, v] = [[1, 1], [4, 2], [4, 3]].map(([time, seed]) =>
    varied([1, 1, time!, 2], seed)
  );
  using step = jit((position: Tensor) =>
    attention(q!, k!, v!, { causal: true, position })
  );
  for (const position of [0, 2, 3]) {
    const traced = step(tensor(position, { dtype: "i32" }));
    const plain = attention(q!, k!, v!, { causal: true, position });
    await assertClose(traced, await plain.data());
  }
});

Deno.test("shapes that do not fit are errors that name the rule", () => {
  const at = (...shape: number[]) => zeros(shape);
  const cases: [Tensor, Tensor, Tensor, Tensor | null, string][] = [
    [
      at(2, 3),
      at(1, 1, 2, 3),
      at(1, 1, 2, 3),
      null,
      "Cannot attend f32[2, 3] to f32[1, 1, 2, 3] and f32[1, 1, 2, 3]: each must be [batch, heads, time, head size]",
    ],
    [
      at(1, 3, 2, 4),
      at(1, 2, 2, 4),
      at(1, 2, 2, 4),
      null,
      "Cannot attend f32[1, 3, 2, 4] to f32[1, 2, 2, 4] and f32[1, 2, 2, 4]: 3 query heads do not divide by 2 key heads",
    ],
    [
      at(1, 2, 2, 4),
      at(1, 2, 2, 4),
      at(1, 2, 3, 4),
      null,
      "Cannot attend f32[1, 2, 2, 4] to f32[1, 2, 2, 4] and f32[1, 2, 3, 4]: keys and values differ in shape",
    ],
    [
      at(1, 2, 2, 4),
      at(1, 2, 2, 8),
      at(1, 2, 2, 8),
      null,
      "Cannot attend f32[1, 2, 2, 4] to f32[1, 2, 2, 8] and f32[1, 2, 2, 8]: batch and head size must be those of the keys",
    ],
    [
      at(1, 2, 2, 4),
      at(1, 2, 2, 4),
      at(1, 2, 2, 4),
      at(1, 3),
      "Cannot attend f32[1, 2, 2, 4] to f32[1, 2, 2, 4] and f32[1, 2, 2, 4]: the mask is f32[1, 3], and must be [1, 2]",
    ],
  ];
  for (const [q, k, v, mask, message] of cases) {
    assertThrows(() => attention(q, k, v, { mask }), ShapeError, message);
  }
});
