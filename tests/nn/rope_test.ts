import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertThrows,
} from "@std/assert";
import { grad, jit, ShapeError, type Tensor, tensor, zeros } from "cotan";
import { rope, type RopeOptions } from "cotan/nn";
import fc from "fast-check";
import { check } from "../support/runs.ts";
import { assertClose, useOracle, values, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

const [T, D] = [5, 6];

/** The explicit rotation of each pair (j, j + D/2), for x [2, 3, T, D]. */
function rotated(x: Float64Array, base: number, position: number): number[] {
  return Array.from(x, (_, i) => {
    const channel = i % D, j = channel % (D / 2);
    const t = Math.floor(i / D) % T + position;
    const angle = t * base ** (-2 * j / D);
    const first = i - channel + j;
    const u = x[first]!, v = x[first + D / 2]!;
    return channel < D / 2
      ? u * Math.cos(angle) - v * Math.sin(angle)
      : v * Math.cos(angle) + u * Math.sin(angle);
  });
}

Deno.test("rope rotates channel j with j + D/2 by t · base^(-2j/D)", async () => {
  const x = varied([2, 3, T, D]);
  const expected = rotated(values(180), 10000, 0);
  await assertClose(rope(x), expected, { shape: [2, 3, T, D] });
  await assertClose(rope(x, { base: 500 }), rotated(values(180), 500, 0));
});

Deno.test("the position of the first token may be a number or a traced scalar", async () => {
  const x = varied([2, 3, T, D]);
  const expected = rotated(values(180), 10000, 7);
  await assertClose(rope(x, { position: 7 }), expected);
  using turned = jit((x: Tensor, position: Tensor) => rope(x, { position }));
  await assertClose(turned(x, tensor(7, { dtype: "i32" })), expected);
  await assertClose(turned(x, tensor(7)), expected);
});

Deno.test("each row of a batch may have a position of its own", async () => {
  const x = varied([2, 3, T, D]);
  const rows = tensor(Int32Array.of(7, 2));
  const y = rope(x, { position: rows });
  const [first, second] = [7, 2].map((at) => rotated(values(180), 10000, at));
  await assertClose(y, [...first!.slice(0, 90), ...second!.slice(90)]);
  assertThrows(
    () => rope(x, { position: zeros([2, 3]) }),
    ShapeError,
    "Cannot take positions from f32[2, 3]: it must be a scalar, or [batch]",
  );
});

Deno.test("rope keeps lengths, and its gradient rotates back", async () => {
  const x = varied([1, 1, T, D]), ct = varied([1, 1, T, D], 2);
  const back = grad((x) => rope(x, { position: 3 }).mul(ct).sum())(x);
  await assertClose(rope(back, { position: 3 }), await ct.data());
});

/** The rates of D = 64 that rope turns by: the angles at position 1, which are below π / 2. */
async function ratesOf(options: RopeOptions): Promise<number[]> {
  const x = tensor([[...new Array(32).fill(1), ...new Array(32).fill(0)]]);
  const turned = await rope(x, { ...options, position: 1 }).data();
  return Array.from(turned.subarray(32), Math.asin);
}

const llama31 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
} as const;

/** The three cases of the scaling of Llama 3.1, for wavelengths against the original length. */
function scaledRate(rate: number, scaling: typeof llama31): number {
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
  const length = scaling.original_max_position_embeddings;
  const wavelength = 2 * Math.PI / rate;
  if (wavelength < length / high) return rate;
  if (wavelength > length / low) return rate / factor;
  const smooth = (length / wavelength - low) / (high - low);
  return (1 - smooth) * rate / factor + smooth * rate;
}

Deno.test("llama3 keeps fast rates, divides slow ones, and goes from one to the other", async () => {
  const plain = await ratesOf({ base: 500000 });
  const rates = await ratesOf({ base: 500000, scaling: llama31 });
  const shares = rates.map((rate, j) => rate / plain[j]!);
  for (const [j, rate] of rates.entries()) {
    assertAlmostEquals(rate, scaledRate(plain[j]!, llama31), 1e-12);
  }
  // Rates that fall in each case, by hand from wavelengths 2π · base^(j/32).
  assertEquals(shares.findIndex((share) => share < 1 - 1e-9), 15);
  assertEquals(shares.findIndex((share) => share < 1 / 8 + 1e-9), 18);
});

Deno.test("llama3 is continuous and keeps the order of rates, whatever its factors", async () => {
  const some = fc.record({
    factor: fc.integer({ min: 1, max: 64 }),
    low: fc.double({ min: 0.1, max: 4, noNaN: true }),
    more: fc.double({ min: 0.01, max: 8, noNaN: true }),
    length: fc.integer({ min: 1, max: 1e5 }),
  });
  await check(
    fc.asyncProperty(some, async ({ factor, low, more, length }) => {
      const scaling = {
        rope_type: "llama3",
        factor,
        low_freq_factor: low,
        high_freq_factor: low + more,
        original_max_position_embeddings: length,
      } as const;
      const plain = await ratesOf({});
      const rates = await ratesOf({ scaling });
      for (const [j, rate] of rates.entries()) {
        const wanted = scaledRate(plain[j]!, scaling as typeof llama31);
        assertAlmostEquals(rate, wanted, 1e-12);
        assert(j === 0 || rate < rates[j - 1]!, "slower from pair to pair");
      }
    }),
    20,
  );
});

Deno.test("linear scaling divides positions", async () => {
  const x = varied([2, 3, 1, D]);
  const scaling = { rope_type: "linear", factor: 4 } as const;
  const expected = rope(x, { position: 3 });
  const y = rope(x, { position: 12, scaling });
  await assertClose(y, await expected.data());
});

Deno.test("an odd head size is an error", () => {
  assertThrows(
    () => rope(zeros([1, 1, 2, 3])),
    ShapeError,
    "Cannot rotate f32[1, 1, 2, 3]: it must be [..., T, D] with an even head size",
  );
});
