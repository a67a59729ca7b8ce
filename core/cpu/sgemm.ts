/**
 * Matrix products by a BLAS: calls of `env.sgemm` for a thread's part, and what outputs compute from it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { MatmulKernel, Matrix } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { SGEMM } from "./assembler.ts";
import { copiesFor, storeAll } from "./map.ts";
import { corner, splitProduct } from "./matmul.ts";
import { Nest } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import { placesOf } from "./places.ts";
import { type Phase, phasesOf } from "./pointers.ts";
import type { StageBuilder } from "./stages.ts";
import { targetOf } from "./target.ts";
import { workOf } from "./work.ts";

/** Rows and columns of parts start at multiples of what a BLAS takes together. */
const GRAIN = 16;

/** Of fewer rows or columns than `count` the built-in products are better, if there is more than `work` to multiply. */
const FEW = { count: 8, work: 2 ** 20 };

/** Nanoseconds of a multiplication and an addition: some 200 GFLOP/s. */
const MADD = 0.01;

/** How a BLAS reads the operands. */
export interface Operands {
  readonly left: Operand;
  readonly right: Operand;
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
  const fewest = Math.min(m, n), work = m * n * k;
  if (k === 0 || work < least) return null;
  if (fewest < 2 || fewest < FEW.count && work > FEW.work) return null;
  if (a.dtype !== "f32" || b.dtype !== "f32" || a.expr || b.expr) return null;
  const overlaps = outputs.some(({ view: { strides } }) =>
    strides[rank + 1] === 1 && strides[rank]! < n
  );
  if (overlaps) return null;
  const left = operandOf(a.view.strides.slice(rank), m, k);
  const right = operandOf(b.view.strides.slice(rank), k, n);
  return left && right && { left, right };
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
  { left, right }: Operands,
): void {
  const { shape, k, a, b } = kernel;
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const exprs = kernel.outputs.map((o) => o.expr);
  const work = MADD * sizeOf(shape) * k + workOf(sizeOf(shape), exprs);
  const layout = { orderA: "packed", orderB: "packed" } as const;
  const split = stages.divide(
    work,
    (division) => splitProduct(kernel, layout, division, GRAIN),
  );
  const isApart = split !== null && split.axis < rank;
  const { c, outputs } = targetOf(
    kernel,
    isApart ? stages.own : stages.common,
    (bytes) => isApart ? stages.takeOwn(bytes) : stages.takeCommon(bytes),
  );
  const rest = outputs.map((o) => o.expr);
  const phases = phasesOf(copiesFor(rest));
  const corners = new Map([a, b, c].map((x) => [x, corner(x, rank)]));
  const places = [...placesOf(outputs), ...corners.values()];
  const regions = [{ exprs: rest, places, within: rank + 1 }];
  const strideOf = (x: Matrix, axis: number): number => x.view.strides[axis]!;
  stages.add(work, split, (lanes, part) => {
    const { code } = lanes;
    const nest = new Nest(lanes, rank + 1, regions, part);
    const pushSize = (axis: number): void => {
      if (part?.axis !== axis) code.const(shape[axis]!);
      else code.push(part.to).push(part.from).op(i32.sub);
    };
    /** Pushes where the thread's part of a matrix begins. */
    const pushStart = (x: Matrix, ...axes: number[]): void => {
      code.get(nest.address(corners.get(x)!));
      for (const axis of axes) {
        if (part?.axis !== axis) continue;
        code.push(part.from).const(4 * strideOf(x, axis));
        code.op(i32.mul).plus();
      }
    };
    nest.enter(() =>
      nest.loops(shape.slice(0, -2), 0, () => {
        code.const(Number(left.isByColumns)).const(Number(right.isByColumns));
        pushSize(rank);
        pushSize(rank + 1);
        code.const(k);
        pushStart(a, rank);
        code.const(left.leading);
        pushStart(b, rank + 1);
        code.const(right.leading);
        pushStart(c, rank, rank + 1);
        code.const(strideOf(c, rank)).const(0).callImported(SGEMM);
        if (outputs.length === 0) return;
        const store = ({ copies }: Phase) => storeAll(nest, outputs, copies);
        nest.across(rank, m, () => nest.across(rank + 1, n, store, phases));
      })
    );
  });
}
