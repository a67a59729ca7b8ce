/**
 * Sums of products by Einstein's convention.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { format, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { evaluate } from "../trace.ts";
import { reshape, slice, transpose } from "./movement.ts";
import { matmul } from "./products.ts";
import { sum } from "./reduce.ts";

/** A tensor with a letter for each axis, no letter twice. */
interface Labelled {
  readonly x: Tensor;
  readonly axes: string;
}

/**
 * Sum of products of tensors whose axes are named by letters: `ij,jk->ik` is a matrix product. Letters that are not in
 * the result are summed over; a letter twice in one operand takes its diagonal. Without `->` the result has the letters
 * that occur once, in alphabetical order. `...` stands for the axes without a letter, counted from the last, and comes
 * first in a result that is not given; they must be of one size in all operands.
 *
 * Operands are taken from left to right, each step as one batched matrix product. Throws `ShapeError` where the
 * equation and the shapes do not agree.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { einsum, tensor } from "cotan";
 *
 * const x = tensor([[1, 2], [3, 4]]);
 * assertEquals(await einsum("ij,j->i", x, tensor([1, 10])).toArray(), [21, 43]);
 * assertEquals(await einsum("ii", x).item(), 5);
 * ```
 */
export function einsum(equation: string, ...inputs: Tensor[]): Tensor {
  const { operands, result } = parse(spelled(equation, inputs), inputs);
  return evaluate(() => {
    const [first, ...rest] = inputs.map((x, i) => diagonal(x, operands[i]!));
    let out = first!;
    rest.forEach((next, i) => {
      const later = rest.slice(i + 1).map(({ axes }) => axes).join("");
      out = contract(out, next, result + later);
    });
    const { x, axes } = sumOut(out, result);
    return transpose(x, [...result].map((letter) => axes.indexOf(letter)));
  });
}

/** Letters of the axes that `...` stands for; nobody else's. */
const UNNAMED = "αβγδεζηθ";

/** An equation with letters for the axes that `...` stands for. */
function spelled(equation: string, inputs: readonly Tensor[]): string {
  const [left = "", right, ...more] = equation.replace(/\s/g, "").split("->");
  const isUnnamed = left.includes("...") && (right ?? "...").includes("...");
  if (!isUnnamed || more.length > 0) return equation;
  const operands = left.split(",");
  const counts = operands.map((axes, i) =>
    axes.includes("...")
      ? Math.max(0, (inputs[i]?.shape.length ?? 0) - (axes.length - 3))
      : 0
  );
  const unnamed = UNNAMED.slice(0, Math.max(...counts));
  const letters = operands.map((axes, i) =>
    axes.replace("...", unnamed.slice(unnamed.length - counts[i]!))
  );
  const named = left.replaceAll(/[^A-Za-z]/g, "");
  const once = [...named].filter((x) => named.split(x).length === 2).sort();
  const result = right?.replace("...", unnamed) ?? unnamed + once.join("");
  return `${letters.join(",")}->${result}`;
}

/** The letters of the operands and of the result; checked against the shapes. */
function parse(
  equation: string,
  inputs: readonly Tensor[],
): { operands: string[]; result: string } {
  const fail = (rule: string): never => {
    const types = inputs.map(format).join(", ");
    throw new ShapeError(`Cannot einsum "${equation}" of ${types}: ${rule}`);
  };
  const [left = "", right, ...more] = equation.replace(/\s/g, "").split("->");
  const operands = left.split(",");
  if (
    more.length > 0 || !/^[A-Za-zα-θ]*$/.test(operands.join("") + (right ?? ""))
  ) {
    fail("an equation has letters, commas, ... and one arrow");
  }
  if (operands.length !== inputs.length) {
    fail(
      `it names ${operands.length} operands, and there are ${inputs.length}`,
    );
  }
  const sizes = new Map<string, number>();
  operands.forEach((axes, i) => {
    const { shape } = inputs[i]!;
    if (axes.length !== shape.length) {
      fail(`"${axes}" names ${axes.length} axes of ${format(inputs[i]!)}`);
    }
    [...axes].forEach((letter, axis) => {
      const size = sizes.get(letter) ?? shape[axis]!;
      if (size !== shape[axis]) {
        fail(`${letter} is ${size} and ${shape[axis]}`);
      }
      sizes.set(letter, size);
    });
  });
  const all = operands.join("");
  const once = [...new Set(all)]
    .filter((letter) => all.indexOf(letter) === all.lastIndexOf(letter));
  const result = right ?? once.sort().join("");
  for (const letter of result) {
    if (!sizes.has(letter)) fail(`no operand has the axis ${letter}`);
    if (result.indexOf(letter) !== result.lastIndexOf(letter)) {
      fail(`the result has ${letter} twice`);
    }
  }
  return { operands, result };
}

/** Takes the diagonal of letters that stand twice. */
function diagonal(x: Tensor, axes: string): Labelled {
  const twice = [...axes].find((letter, i) => axes.indexOf(letter) < i);
  if (!twice) return { x, axes };
  const first = axes.indexOf(twice), second = axes.indexOf(twice, first + 1);
  const others = x.shape.map((_, i) => i)
    .filter((i) => i !== first && i !== second);
  const size = x.shape[first]!;
  const outer = others.map((i) => x.shape[i]!);
  const flat = reshape(transpose(x, [...others, first, second]), [
    ...outer,
    size * size,
  ]);
  const picked = slice(flat, [
    ...outer.map(() => null),
    [0, size * size, size + 1],
  ]);
  const kept = others.map((i) => axes[i]).join("");
  return diagonal(picked, kept + twice);
}

/** Sums over the axes that are not wanted. */
function sumOut({ x, axes }: Labelled, wanted: string): Labelled {
  const gone = [...axes].flatMap((letter, i) =>
    wanted.includes(letter) ? [] : [i]
  );
  if (gone.length === 0) return { x, axes };
  const kept = [...axes].filter((letter) => wanted.includes(letter)).join("");
  return { x: sum(x, { axis: gone }), axes: kept };
}

/** The product of two tensors, summed over what they share and nobody wants. */
function contract(left: Labelled, right: Labelled, wanted: string): Labelled {
  const a = sumOut(left, wanted + right.axes);
  const b = sumOut(right, wanted + left.axes);
  const shared = [...a.axes].filter((letter) => b.axes.includes(letter));
  const batch = shared.filter((letter) => wanted.includes(letter)).join("");
  const inner = shared.filter((letter) => !wanted.includes(letter)).join("");
  const rows = [...a.axes].filter((x) => !b.axes.includes(x)).join("");
  const columns = [...b.axes].filter((x) => !a.axes.includes(x)).join("");
  const sizes = ({ x, axes }: Labelled, of: string): number[] =>
    [...of].map((letter) => x.shape[axes.indexOf(letter)]!);
  const arrange = (t: Labelled, groups: readonly string[]): Tensor => {
    const perm = [...groups.join("")].map((letter) => t.axes.indexOf(letter));
    const flat = groups.map((group) => sizeOf(sizes(t, group)));
    return reshape(transpose(t.x, perm), flat);
  };
  const product = matmul(
    arrange(a, [batch, rows, inner]),
    arrange(b, [batch, inner, columns]),
  );
  const shape = [
    ...sizes(a, batch + rows),
    ...sizes(b, columns),
  ];
  return { x: reshape(product, shape), axes: batch + rows + columns };
}
