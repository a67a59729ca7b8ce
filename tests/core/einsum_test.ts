/**
 * Tests of einsum against plain loops.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { einsum, init, iota, ShapeError, tensor, zeros } from "cotan";
import { assertClose } from "../support/allclose.ts";
import { check } from "../support/runs.ts";

const letters = ["a", "b", "c", "d"];

/** Two operands of up to three axes, letters possibly repeated, and a result of some of their letters. */
const equations = fc.record({
  left: fc.array(fc.constantFrom(...letters), { maxLength: 3 }),
  right: fc.array(fc.constantFrom(...letters), { maxLength: 3 }),
  sizes: fc.array(fc.integer({ min: 1, max: 3 }), {
    minLength: 4,
    maxLength: 4,
  }),
  kept: fc.shuffledSubarray(letters),
});

/** The sum over every assignment of the letters, one term after another. */
function naive(
  operands: readonly { axes: string[]; data: Float64Array }[],
  result: readonly string[],
  size: (letter: string) => number,
): number[] {
  const all = [...new Set([...operands.flatMap((o) => o.axes), ...result])];
  const out = new Array<number>(result.reduce((n, x) => n * size(x), 1));
  out.fill(0);
  const at = new Map<string, number>();
  const offset = (axes: readonly string[]) =>
    axes.reduce((sum, letter) => sum * size(letter) + at.get(letter)!, 0);
  const visit = (i: number): void => {
    if (i === all.length) {
      out[offset(result)]! += operands
        .reduce((product, o) => product * o.data[offset(o.axes)]!, 1);
      return;
    }
    for (let k = 0; k < size(all[i]!); k++) {
      at.set(all[i]!, k);
      visit(i + 1);
    }
  };
  visit(0);
  return out;
}

Deno.test("einsum is the sum over all letters", async () => {
  using _ = await init({ backend: "reference", precision: "f64" });
  await check(
    fc.asyncProperty(equations, async ({ left, right, sizes, kept }) => {
      const size = (letter: string) => sizes[letters.indexOf(letter)]!;
      const result = kept.filter((x) => left.includes(x) || right.includes(x));
      const operands = [left, right].map((axes, o) => {
        const count = axes.reduce((n, x) => n * size(x), 1);
        const data = Float64Array.from(
          { length: count },
          (_, i) => Math.sin(i + o + 1),
        );
        return { axes, data };
      });
      const equation = `${left.join("")},${right.join("")}->${result.join("")}`;
      const out = einsum(
        equation,
        ...operands.map(({ axes, data }) =>
          tensor(data, { shape: axes.map(size) })
        ),
      );
      const expected = naive(operands, result, size);
      await assertClose(out, expected, { rtol: 1e-12, atol: 1e-12 });
    }),
    60,
  );
});

Deno.test("einsum says what does not agree", async () => {
  using _ = await init({ backend: "reference" });
  const x = zeros([2, 3]);
  const refuse = (equation: string, message: string) =>
    assertThrows(() => einsum(equation, x), ShapeError, message);
  refuse("i->i", `"i" names 1 axes of f32[2, 3]`);
  refuse("ii->i", "i is 2 and 3");
  refuse("ij->k", "no operand has the axis k");
  refuse("ij->jj", "the result has j twice");
  refuse("ij,jk->ik", "it names 2 operands, and there are 1");
  refuse("i...->i", "an equation has letters, commas, ... and one arrow");
});

Deno.test("axes without a letter go along, from the last", async () => {
  using _ = await init({ backend: "reference", precision: "f64" });
  const x = iota([2, 3, 4], { axis: 2, dtype: "f32" }).add(
    iota([2, 3, 4], { axis: 0, dtype: "f32" }).mul(10),
  );
  const w = iota([4, 5], { axis: 1, dtype: "f32" }).add(1);
  const product = await x.matmul(w).data();
  for (const equation of ["...i,ij->...j", "...i,ij", "b...i,ij->b...j"]) {
    const out = einsum(equation, x, w);
    assertEquals(out.shape, [2, 3, 5]);
    await assertClose(out, product);
  }
  await assertClose(
    einsum("...i,...i->...", x, iota([3, 4], { axis: 0, dtype: "f32" })),
    await x.mul(iota([3, 1], { axis: 0, dtype: "f32" })).sum({ axis: -1 })
      .data(),
  );
  assertEquals(einsum("...ij->...ji", x).shape, [2, 4, 3]);
});
