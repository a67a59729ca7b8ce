import { assertAlmostEquals, assertThrows } from "@std/assert";
import { grad, ShapeError, zeros } from "cotan";
import { layerNorm, rmsNorm } from "cotan/nn";
import { assertClose, useOracle, values, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

const mean = (x: Float64Array) => x.reduce((s, v) => s + v, 0) / x.length;

/** Rows of 4 of the values with a seed, each mapped. */
function rows(
  seed: number,
  f: (row: Float64Array) => ArrayLike<number>,
): number[] {
  const x = values(12, seed);
  return [0, 1, 2].flatMap((i) => Array.from(f(x.subarray(4 * i, 4 * i + 4))));
}

Deno.test("rmsNorm divides by the root mean square of the last axis", async () => {
  const gain = values(4, 2);
  const expected = rows(1, (x) => {
    const rms = Math.sqrt(mean(x.map((v) => v * v)) + 1e-3);
    return x.map((v, i) => v / rms * gain[i]!);
  });
  const y = rmsNorm({ weight: varied([4], 2) }, varied([3, 4]), { eps: 1e-3 });
  await assertClose(y, expected, { shape: [3, 4] });
});

Deno.test("layerNorm subtracts the mean, divides by the deviation and shifts", async () => {
  const gain = values(4, 2), shift = values(4, 3);
  const expected = rows(1, (x) => {
    const center = mean(x);
    const deviation = Math.sqrt(mean(x.map((v) => (v - center) ** 2)) + 1e-5);
    return x.map((v, i) => (v - center) / deviation * gain[i]! + shift[i]!);
  });
  const p = { weight: varied([4], 2), bias: varied([4], 3) };
  await assertClose(layerNorm(p, varied([3, 4])), expected, { shape: [3, 4] });
});

Deno.test("a shift of x changes no layerNorm, a factor no rmsNorm", async () => {
  const x = varied([3, 4]), weight = varied([4], 2);
  const eps = 1e-30;
  await assertClose(
    layerNorm({ weight }, x.add(3), { eps }),
    await layerNorm({ weight }, x, { eps }).data(),
  );
  await assertClose(
    rmsNorm({ weight }, x.mul(3), { eps }),
    await rmsNorm({ weight }, x, { eps }).data(),
  );
});

Deno.test("gradients of the norms equal finite differences along a direction", async () => {
  for (const norm of [rmsNorm, layerNorm]) {
    const x = varied([3, 4]), along = varied([3, 4], 5), ct = varied([3, 4], 6);
    const p = { weight: varied([4], 2), bias: varied([4], 3) };
    const loss = (x: typeof ct) => norm(p, x).mul(ct).sum();
    const slope = await grad(loss)(x).mul(along).sum().item();
    const h = 1e-5;
    const [up, down] = [
      await loss(x.add(along.mul(h))).item(),
      await loss(x.sub(along.mul(h))).item(),
    ];
    assertAlmostEquals(slope, (up - down) / (2 * h), 1e-7);
  }
});

Deno.test("a gain of another size is an error that shows both types", () => {
  assertThrows(
    () => rmsNorm({ weight: zeros([5]) }, zeros([3, 4])),
    ShapeError,
    "Cannot norm f32[3, 4] by f32[5]: the gain must be a vector as long as the last axis",
  );
});
