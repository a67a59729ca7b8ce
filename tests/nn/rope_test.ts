import { assertThrows } from "@std/assert";
import { grad, jit, ShapeError, type Tensor, tensor, zeros } from "cotan";
import { rope } from "cotan/nn";
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

Deno.test("an odd head size is an error", () => {
  assertThrows(
    () => rope(zeros([1, 1, 2, 3])),
    ShapeError,
    "Cannot rotate f32[1, 1, 2, 3]: it must be [..., T, D] with an even head size",
  );
});
