/**
 * Plans as text: a line for each kernel, then the totals.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Shape, sizeOf } from "../shape.ts";
import { visitExpr } from "./expression.ts";
import type { Expr, Kernel, Place, Plan } from "./kernel.ts";

/** One kernel of a program. */
export interface ProgramKernel {
  /** What kind of loop it is. */
  readonly kind: "map" | "reduce" | "matmul" | "scatter";
  /** Loop extents. */
  readonly shape: Shape;
  /** Floating-point operations, in all trips of the loops around it. */
  readonly flops: number;
}

/** What a compiled function runs; prints as a line for each kernel and the totals. */
export interface Program {
  /** The kernels, in order. */
  readonly kernels: readonly ProgramKernel[];
  /** Floating-point operations of all kernels. */
  readonly flops: number;
  /** Bytes of intermediate values, which share their places over time. */
  readonly arenaBytes: number;
  /** A line for each kernel and the totals. */
  toString(): string;
}

/** What a plan does, for people and tests to read. */
export function describePlan(plan: Plan): Program {
  const kernels = plan.steps.map(({ kernel }, i) => {
    const { kind, shape } = kernel;
    const trips = plan.loops
      .filter(({ first, end }) => first <= i && i < end)
      .reduce((product, loop) => product * loop.trips, 1);
    return { kind, shape, flops: flopsOf(kernel) * trips };
  });
  const program = {
    kernels,
    flops: kernels.reduce((sum, { flops }) => sum + flops, 0),
    arenaBytes: plan.pages.reduce((sum, bytes) => sum + bytes, 0),
  };
  return { ...program, toString: () => print(plan, program) };
}

function print(
  plan: Plan,
  { flops, arenaBytes }: Pick<Program, "flops" | "arenaBytes">,
): string {
  const rows = plan.steps.flatMap(({ kernel, buffers }, i) => {
    const names = buffers.map(placeName).join(" ");
    const loops = plan.loops.filter(({ first }) => first === i);
    return [
      ...loops.map(({ first, end, trips }) =>
        `loop ×${trips}: kernels ${first}-${end - 1}`
      ),
      `${String(i).padStart(4)}  ${summary(kernel)}  (${names})`,
    ];
  });
  const inPlace = plan.outputs.filter((o) => o.kind === "input").length;
  return [
    ...rows,
    `${plan.steps.length} kernels, ${(flops / 1e6).toFixed(1)} MFLOP, arena ${
      (arenaBytes / 2 ** 20).toFixed(2)
    } MiB, ${plan.outputs.length} outputs of which ${inPlace} in place`,
  ].join("\n");
}

function placeName(place: Place): string {
  if (place.kind === "arena") {
    return `arena${place.page}+${place.offset}`;
  }
  return `${place.kind}${place.index}`;
}

function summary(kernel: Kernel): string {
  const shape = `[${kernel.shape.join(", ")}]`;
  switch (kernel.kind) {
    case "map":
      return `map ${shape} ${opsIn(kernel.outputs.map((o) => o.expr))}`;
    case "reduce":
      return `${kernel.combine} ${shape} over [${kernel.over.join(", ")}] ${
        opsIn([kernel.body])
      } then ${opsIn(kernel.outputs.map((o) => o.expr))}`;
    case "matmul":
      return `matmul ${shape} inner ${kernel.k} then ${
        opsIn(kernel.outputs.map((o) => o.expr))
      }`;
    case "scatter":
      return `scatter ${shape} along axis ${kernel.axis}`;
  }
}

function opsIn(exprs: readonly Expr[]): string {
  const names: string[] = [];
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if (e.kind === "call") names.push(e.op);
      if (e.kind === "cast" || e.kind === "gather") names.push(e.kind);
    }, seen);
  }
  return names.length === 0 ? "copy" : names.join(" ");
}

/** Floating-point operations of a kernel: two for each product and its sum, one for each scalar function. */
function flopsOf(kernel: Kernel): number {
  const points = sizeOf(kernel.shape);
  if (kernel.kind === "scatter") return points;
  const epilogue = points * callsIn(kernel.outputs.map((o) => o.expr));
  if (kernel.kind === "matmul") return 2 * points * kernel.k + epilogue;
  if (kernel.kind === "map") return epilogue;
  const reduced = points * sizeOf(kernel.over);
  return reduced * (1 + callsIn([kernel.body])) + epilogue;
}

function callsIn(exprs: readonly Expr[]): number {
  let calls = 0;
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if (e.kind === "call") calls++;
    }, seen);
  }
  return calls;
}
