/**
 * Reach: which bytes of its buffers a kernel touches, and how many bindings of limited length hold them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement, type Limits } from "../backend.ts";
import { formatBytes } from "../budget.ts";
import type { DType } from "../dtype.ts";
import { DeviceError } from "../errors.ts";
import { format, type Shape } from "../shape.ts";
import { exprsOf, outputsOf, timesOf, visitExpr } from "./expression.ts";
import type { Expr, Kernel, Matrix, SimpleKernel, View } from "./kernel.ts";
import type { Value } from "./lowered.ts";

/** What an access may touch: bytes of a buffer from `first` to before `end`, in whole vectors of four words. */
export interface Reach {
  /** Which buffer of the kernel. */
  readonly buffer: number;
  /** The first byte. */
  readonly first: number;
  /** The byte after the last. */
  readonly end: number;
}

/** What limits the bindings of a kernel. */
export type Bindings = Pick<
  Limits,
  "buffersPerKernel" | "bytesPerBinding" | "unpacksOperands"
>;

/** Bindings begin at multiples of so many bytes. */
const STEP = 256;
const VECTOR = 16;

/** What a kernel touches of its buffers, access by access. */
export function reachOf(kernel: Kernel): Reach[] {
  if (kernel.kind === "group") return kernel.parts.flatMap(reachOf);
  const { shape } = kernel;
  switch (kernel.kind) {
    case "map":
      return [...storesOf(kernel, shape), ...loadsOf(exprsOf(kernel), shape)];
    case "reduce": {
      const all = [...shape, ...kernel.over];
      const walks = { ...kernel, outputs: [] };
      const rows = { ...kernel, passes: [] };
      return [
        ...storesOf(walks, all),
        ...loadsOf(exprsOf(walks), all),
        ...storesOf(rows, shape),
        ...loadsOf(exprsOf(rows), shape),
      ];
    }
    case "matmul": {
      const { a, b, k } = kernel;
      const rank = shape.length;
      return [
        ...operandOf(a, shape.with(rank - 1, k)),
        ...operandOf(b, shape.with(rank - 2, k)),
        ...storesOf(kernel, shape),
        ...loadsOf(exprsOf(kernel), shape),
      ];
    }
    case "scatter": {
      const { buffer, view, stride, size, source } = kernel;
      return [
        access(buffer, view, shape, source.dtype, stride * (size - 1)),
        ...loadsOf(exprsOf(kernel), shape),
      ];
    }
    case "fused":
      return [...kernel.operands, ...kernel.results].flatMap((x) =>
        x ? [access(x.buffer, x.view, x.shape, x.dtype)] : []
      );
  }
}

function storesOf(kernel: SimpleKernel, extents: Shape): Reach[] {
  return outputsOf(kernel).map(({ buffer, view, expr }) =>
    access(buffer, view, extents, expr.dtype)
  );
}

function loadsOf(exprs: readonly Expr[], extents: Shape): Reach[] {
  const loads: Reach[] = [];
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if (!("buffer" in e)) return;
      const { buffer, view, dtype } = e;
      const far = e.kind === "gather" ? e.stride * (e.size - 1) : 0;
      loads.push(access(buffer, view, extents, dtype, far, timesOf(e)));
    }, seen);
  }
  return loads;
}

function operandOf(
  { buffer, view, dtype, expr }: Matrix,
  extents: Shape,
): Reach[] {
  return expr ? loadsOf([expr], extents) : [
    access(buffer, view, extents, dtype),
  ];
}

/** What a view touches over some extents, and `far` elements from there; an element stands `times` times. */
function access(
  buffer: number,
  { offset, strides }: View,
  extents: Shape,
  dtype: DType,
  far = 0,
  times = 1,
): Reach {
  const steps = [...extents.map((d, axis) => strides[axis]! * (d - 1)), far];
  const low = steps.reduce((sum, s) => sum + Math.min(0, s), offset);
  const high = steps.reduce((sum, s) => sum + Math.max(0, s), offset);
  const bytes = bytesPerElement(dtype) / times;
  return {
    buffer,
    first: Math.max(0, Math.floor(low * bytes / VECTOR) * VECTOR),
    end: Math.ceil((high + 1) * bytes / VECTOR) * VECTOR,
  };
}

/** Where what is touched of each buffer ends. */
export function endsOf(reaches: readonly Reach[]): Map<number, number> {
  const ends = new Map<number, number>();
  for (const { buffer, end } of reaches) {
    ends.set(buffer, Math.max(end, ends.get(buffer) ?? 0));
  }
  return ends;
}

/** Whether bytes of a page lie in one piece of a binding's length, or begin with one. */
export function isWhole(
  offset: number,
  bytes: number,
  bytesPerBinding: number,
): boolean {
  const within = offset % bytesPerBinding;
  return within === 0 || within + bytes <= bytesPerBinding;
}

/** The bytes at which bindings begin that hold what is touched of each buffer; those of one buffer do not overlap. */
export function windowsOf(
  reaches: readonly Reach[],
  bytesPerBinding: number,
  step = STEP,
): Map<number, number[]> {
  const ends = endsOf(reaches);
  const windows = new Map<number, number[]>();
  ends.forEach((end, buffer) =>
    end <= bytesPerBinding && windows.set(buffer, [0])
  );
  if (windows.size === ends.size) return windows;
  for (const { buffer, first, end } of reaches.toSorted(byFirst)) {
    if (ends.get(buffer)! <= bytesPerBinding) continue;
    const starts = windows.get(buffer) ?? [];
    windows.set(buffer, starts);
    let covered = starts.length === 0 ? 0 : starts.at(-1)! + bytesPerBinding;
    while (covered < end) {
      const start = Math.max(covered, Math.floor(first / step) * step);
      starts.push(start);
      covered = start + bytesPerBinding;
    }
  }
  return windows;
}

function byFirst(a: Reach, b: Reach): number {
  return a.first - b.first;
}

function countOf(reaches: readonly Reach[], limits: Bindings): number {
  const windows = [...windowsOf(reaches, limits.bytesPerBinding).values()];
  return windows.reduce((sum, starts) => sum + starts.length, 0);
}

/** Bindings that a kernel takes. */
export function bindingsOf(kernel: Kernel, limits: Bindings): number {
  return countOf(reachOf(kernel), limits);
}

/** Bindings that a kernel takes for one point of `shape`: it may be run for some points after others. */
export function bindingsOfPoint(
  kernel: SimpleKernel,
  limits: Bindings,
): number {
  return bindingsOf(
    { ...kernel, shape: kernel.shape.map(() => 1) },
    limits,
  );
}

/**
 * Most bindings that a kernel takes for any point, for bindings begin where they may and not where rows do. What `ends`
 * within a binding takes one.
 */
export function bindingsOfAnyPoint(
  kernel: SimpleKernel,
  limits: Bindings,
  ends: ReadonlyMap<number, number> = endsOf(reachOf(kernel)),
): number {
  const point = reachOf({ ...kernel, shape: kernel.shape.map(() => 1) });
  const anywhere = point.map((reach) => {
    const isShort = (ends.get(reach.buffer) ?? 0) <= limits.bytesPerBinding;
    return isShort ? reach : { ...reach, end: reach.end + STEP };
  });
  return countOf(anywhere, limits);
}

/** Fewest bindings that a kernel can be run with: a reduction or a product goes through its terms in pieces as well. */
export function fewestBindings(kernel: SimpleKernel, limits: Bindings): number {
  if (kernel.kind === "matmul") {
    return bindingsOfPoint({ ...kernel, k: 1 }, limits);
  }
  const isSum = kernel.kind === "reduce" && kernel.passes.length === 1 &&
    kernel.passes[0]!.outputs.length === 0;
  return bindingsOfPoint(
    isSum ? { ...kernel, over: kernel.over.map(() => 1) } : kernel,
    limits,
  );
}

/** Fewest bindings of a kernel for what an expression reads. */
export function bindingsOfExpr(expr: Expr, limits: Bindings): number {
  return countOf(loadsOf([expr], []), limits);
}

/** The error of a kernel that cannot be run in pieces of few enough bindings: it reaches too far into one of its buffers. */
export function outOfReach(
  kernel: SimpleKernel,
  values: readonly Value[],
  { buffersPerKernel, bytesPerBinding }: Bindings,
): DeviceError {
  let widest: Value | undefined;
  for (const { buffer } of reachOf(kernel)) {
    const value = values[buffer];
    if (value && value.size > (widest?.size ?? -1)) widest = value;
  }
  const bytes = widest!.size * bytesPerElement(widest!.dtype);
  return new DeviceError(
    `Cannot index ${format(widest!)}: it takes ${
      formatBytes(bytes)
    }, and a kernel reaches at most ${buffersPerKernel} times ${
      formatBytes(bytesPerBinding)
    }, its other tensors included; split it into smaller ones`,
  );
}
