/**
 * Matrix products by a BLAS: calls of `env.sgemm` for a thread's part, and what outputs compute from it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { MatmulKernel } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import {
  type Block,
  type Bound,
  type Local,
  type Range,
  SGEMM,
} from "./assembler.ts";
import { copiesFor, storeAll } from "./map.ts";
import { corner, splitProduct, targetOf } from "./matmul.ts";
import { Nest, phasesOf, placesOf } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import type { StageBuilder } from "./stages.ts";
import { workOf } from "./work.ts";

/** Rows and columns of parts start at multiples of what a BLAS takes together, so that it sums on all parts alike. */
const GRAIN = 16;

/** Most elements of a block whose outputs are computed while it is in the second cache. */
const BLOCK = 2 ** 17;

/** Nanoseconds of a multiplication and an addition: some 200 GFLOP/s. */
const MADD = 0.01;

/** How a BLAS reads the operands. */
export interface Operands {
  readonly a: Operand;
  readonly b: Operand;
}

/** Whether an operand is stored by its columns, and the distance of these or else of its rows. */
interface Operand {
  readonly isByColumns: boolean;
  readonly leading: number;
}

/**
 * How a BLAS reads the operands of a product of at least so many multiplications; null where the built-in products are
 * better, or it cannot read them.
 */
export function operandsOf(
  { shape, k, a, b, outputs }: MatmulKernel,
  least: number,
): Operands | null {
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  if (Math.min(m, n) < 2 || k === 0 || m * n * k < least) return null;
  if (a.dtype !== "f32" || b.dtype !== "f32") return null;
  const overlaps = outputs.some(({ view: { strides } }) =>
    strides[rank + 1] === 1 && strides[rank]! < n
  );
  if (overlaps) return null;
  const left = operandOf(a.view.strides.slice(rank), m, k);
  const right = operandOf(b.view.strides.slice(rank), k, n);
  return left && right && { a: left, b: right };
}

function operandOf(
  strides: readonly number[],
  rows: number,
  columns: number,
): Operand | null {
  const [row, column] = strides as [number, number];
  const candidates = [
    {
      isByColumns: false,
      step: column,
      count: columns,
      leading: rows === 1 ? columns : row,
    },
    {
      isByColumns: true,
      step: row,
      count: rows,
      leading: columns === 1 ? rows : column,
    },
  ];
  return candidates.find(({ step, count, leading }) =>
    (step === 1 || count === 1) && leading >= count
  ) ?? null;
}

/** Emits a product as a stage. */
export function emitSgemm(
  stages: StageBuilder,
  kernel: MatmulKernel,
  operands: Operands,
): void {
  const { shape, k, a, b } = kernel;
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const exprs = kernel.outputs.map((o) => o.expr);
  const work = MADD * sizeOf(shape) * k + workOf(sizeOf(shape), exprs);
  const split = stages.divide(
    work,
    (division) =>
      splitProduct(
        kernel,
        { orderA: "packed", packsB: true, strip: GRAIN },
        division,
      ),
  );
  const isApart = split !== null && split.axis < rank;
  const { c, outputs } = targetOf(
    kernel,
    isApart ? stages.own : stages.common,
    (bytes) => isApart ? stages.takeOwn(bytes) : stages.takeCommon(bytes),
  );
  const rest = outputs.map((o) => o.expr);
  const corners = [a, b, c].map((x) => corner(x, rank));
  const places = [...placesOf(outputs), ...corners];
  const regions = [{ exprs: rest, places, within: rank + 1 }];
  const rows = outputs.length === 0
    ? m
    : GRAIN * Math.max(4, Math.floor(BLOCK / n / GRAIN));
  stages.add(work, split, (lanes, part) => {
    const { code } = lanes;
    const nest = new Nest(lanes, rank + 1, regions, part);
    const rangeOf = (axis: number): Range =>
      part?.axis === axis ? part : { from: 0, to: shape[axis]! };
    const push = (base: Local, ...terms: [Bound, number][]) => {
      code.get(base);
      for (const [index, stride] of terms) {
        if (index === 0) continue;
        code.push(index).const(4 * stride).op(i32.mul).op(i32.add);
      }
    };
    const multiply = (bases: readonly Local[], i: Block, j: Block) => {
      const [aBase, bBase, cBase] = bases as [Local, Local, Local];
      code.const(Number(operands.a.isByColumns));
      code.const(Number(operands.b.isByColumns));
      code.push(i.size).push(j.size).const(k);
      push(aBase, [i.from, a.view.strides[rank]!]);
      code.const(operands.a.leading);
      push(bBase, [j.from, b.view.strides[rank + 1]!]);
      code.const(operands.b.leading);
      const leading = c.view.strides[rank]!;
      push(cBase, [i.from, leading], [j.from, 1]);
      code.const(leading).callImported(SGEMM);
    };
    const finish = (i: Block, j: Block) => {
      const phases = phasesOf(copiesFor(rest));
      const store = ({ copies }: { copies: number }) =>
        storeAll(nest, outputs, copies);
      nest.loop(
        rank,
        i.from,
        i.to,
        () => nest.loop(rank + 1, j.from, j.to, store, phases),
      );
    };
    nest.enter(() =>
      nest.loops(shape.slice(0, -2), 0, () => {
        const bases = corners.map((x) => nest.address(x));
        code.blocks(rangeOf(rank + 1), n, (j) =>
          code.blocks(rangeOf(rank), rows, (i) => {
            multiply(bases, i, j);
            if (outputs.length > 0) {
              finish(i, j);
            }
          }));
      })
    );
  });
}
