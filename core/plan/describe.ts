/**
 * Plans as text: a line for each kernel, then the totals.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import { toposort } from "../graph.ts";
import { ops } from "../ops.ts";
import { type Shape, sizeOf, type Type } from "../shape.ts";
import { exprsOf, visitExpr } from "./expression.ts";
import type {
  Expr,
  FusedKernel,
  Kernel,
  Place,
  Plan,
  SimpleKernel,
} from "./kernel.ts";
import { walkSteps } from "./loops.ts";

/** One kernel of a program. */
export interface ProgramKernel {
  /** What kind of loop it is; a group is several small kernels in one launch. */
  readonly kind: "map" | "reduce" | "matmul" | "scatter" | "fused" | "group";
  /** Loop extents; of a group, the number of its parts. */
  readonly shape: Shape;
  /** Floating-point operations. */
  readonly flops: number;
  /** Bytes of the buffers that it reads or writes. */
  readonly bytes: number;
}

/** What a compiled function runs; prints as a line for each kernel and the totals. */
export interface Program {
  /** The kernels, in order. */
  readonly kernels: readonly ProgramKernel[];
  /** Floating-point operations of a run. */
  readonly flops: number;
  /** Bytes of buffers that the kernels of a run read or write. */
  readonly bytes: number;
  /** Number of slots that intermediate values share. */
  readonly slots: number;
  /** Bytes of these slots: what a run needs beside its inputs and outputs. */
  readonly arenaBytes: number;
  /** Bytes at the widest point: inputs, outputs and slots. */
  readonly peakBytes: number;
  /** A line for each kernel and the totals. */
  toString(): string;
}

/** What a plan does, for people and tests to read; `inputs` are the types of its inputs. */
export function describePlan(plan: Plan, inputs: readonly Type[]): Program {
  const given = inputs.map(({ shape, dtype }) =>
    sizeOf(shape) * bytesPerElement(dtype)
  );
  const made = plan.outputs.map((source) =>
    source.kind === "new" ? source.size * bytesPerElement(source.dtype) : 0
  );
  const bytesOf = (place: Place): number => {
    if (place.kind === "arena") return place.bytes;
    if (place.kind === "input") return given[place.index]!;
    const source = plan.outputs[place.index]!;
    return source.kind === "new" ? made[place.index]! : given[source.index]!;
  };
  const kernels = plan.steps.map(({ kernel, buffers }) => ({
    kind: kernel.kind,
    shape: kernel.kind === "group" ? [kernel.parts.length] : kernel.shape,
    flops: flopsOf(kernel),
    bytes: total(buffers.map(bytesOf)),
  }));
  let trips = 1, flops = 0, bytes = 0;
  walkSteps(plan, (step) => {
    flops += trips * kernels[step]!.flops;
    bytes += trips * kernels[step]!.bytes;
  }, (times, body) => {
    trips *= times;
    body();
    trips /= times;
  });
  const places = plan.steps.flatMap(({ buffers }) => buffers)
    .filter((place) => place.kind === "arena").map(placeName);
  const arenaBytes = total(plan.pages);
  const program = {
    kernels,
    flops,
    bytes,
    slots: new Set(places).size,
    arenaBytes,
    peakBytes: total(given) + total(made) + arenaBytes,
  };
  return { ...program, toString: () => print(plan, program) };
}

function print(plan: Plan, program: Omit<Program, "toString">): string {
  const lines: string[] = [];
  let indent = "";
  walkSteps(plan, (step) => {
    const { kernel, buffers } = plan.steps[step]!;
    const { flops, bytes } = program.kernels[step]!;
    const number = String(step).padStart(4);
    lines.push(
      `${number}  ${indent}${summary(kernel)}  ${count(flops)}FLOP ${
        count(bytes)
      }B  (${buffers.map(placeName).join(" ")})`,
    );
  }, (trips, body) => {
    lines.push(`      ${indent}${trips} times:`);
    indent += "  ";
    body();
    indent = indent.slice(2);
  });
  const inPlace = plan.outputs.filter((o) => o.kind === "input").length;
  const { flops, bytes, slots, arenaBytes, peakBytes } = program;
  return [
    ...lines,
    `${plan.steps.length} kernels, ${count(flops)}FLOP, ${count(bytes)}B`,
    `${slots} slots in ${count(arenaBytes)}B, peak ${
      count(peakBytes)
    }B with inputs and outputs`,
    `${plan.outputs.length} outputs of which ${inPlace} in place`,
  ].join("\n");
}

/** A number with three digits and a prefix. */
function count(n: number): string {
  const [size, prefix] = n >= 1e9
    ? [1e9, "G"]
    : n >= 1e6
    ? [1e6, "M"]
    : n >= 1e3
    ? [1e3, "k"]
    : [1, ""];
  return `${Number((n / size).toPrecision(3))} ${prefix}`;
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, n) => sum + n, 0);
}

function placeName(place: Place): string {
  return place.kind === "arena"
    ? `arena${place.page}+${place.offset}`
    : `${place.kind}${place.index}`;
}

function summary(kernel: Kernel): string {
  if (kernel.kind === "group") {
    return `${kernel.parts.length} × ${summary(kernel.parts[0]!)}`;
  }
  const shape = `[${kernel.shape.join(", ")}]`;
  switch (kernel.kind) {
    case "map":
      return `map ${shape} ${opsIn(kernel.outputs.map((o) => o.expr))}`;
    case "reduce": {
      const passes = kernel.passes.map(({ reductions, outputs }) =>
        [
          ...reductions.map((r) => `${r.combine} of ${opsIn([r.body])}`),
          ...outputs.map((o) => `store ${opsIn([o.expr])}`),
        ].join(", ")
      );
      if (kernel.outputs.length > 0) {
        passes.push(`store ${opsIn(kernel.outputs.map((o) => o.expr))}`);
      }
      return `reduce ${shape} over [${kernel.over.join(", ")}] ${
        passes.join("; ")
      }`;
    }
    case "matmul":
      return `matmul ${shape} inner ${kernel.k} then ${
        opsIn(kernel.outputs.map((o) => o.expr))
      }`;
    case "scatter":
      return `scatter ${shape} along axis ${kernel.axis}`;
    case "fused":
      return `${kernel.spec.kind} ${shape}`;
  }
}

function opsIn(exprs: readonly Expr[]): string {
  const names: string[] = [];
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if (e.kind === "call") names.push(e.op);
      const { kind } = e;
      if (kind === "cast" || kind === "gather" || kind === "unpack") {
        names.push(kind);
      }
    }, seen);
  }
  return names.length === 0 ? "copy" : names.join(" ");
}

/** Floating-point operations of a kernel: two for each product and its sum, one for each scalar function. */
function flopsOf(kernel: Kernel): number {
  if (kernel.kind === "group") return total(kernel.parts.map(flopsOf));
  const points = sizeOf(kernel.shape);
  if (kernel.kind === "scatter") return points;
  if (kernel.kind === "fused") return definedFlops(kernel);
  if (kernel.kind !== "reduce") {
    const product = kernel.kind === "matmul" ? 2 * kernel.k : 0;
    return points * (product + callsIn(kernel));
  }
  const reductions = total(kernel.passes.map((p) => p.reductions.length));
  const inside = reductions + callsIn({ ...kernel, outputs: [] });
  return points * (sizeOf(kernel.over) * inside + callsIn({
    ...kernel,
    passes: [],
  }));
}

/** Operations of what a fused kernel computes, though it may do without some of them. */
function definedFlops({ definition }: FusedKernel): number {
  return total(
    toposort(definition.outputs).map(({ op, shape, inputs }) => {
      const { kind } = ops[op];
      if (kind === "product") {
        return 2 * sizeOf(shape) * inputs[0]!.shape.at(-1)!;
      }
      if (kind === "reduce") return sizeOf(inputs[0]!.shape);
      return kind === "elementwise" && op !== "cast" ? sizeOf(shape) : 0;
    }),
  );
}

function callsIn(kernel: SimpleKernel): number {
  let calls = 0;
  const seen = new Set<Expr>();
  for (const expr of exprsOf(kernel)) {
    visitExpr(expr, (e) => {
      if (e.kind === "call") calls++;
    }, seen);
  }
  return calls;
}
