/**
 * Windows: a buffer that is longer than a binding is bound as several, and functions of the shader find the one that an
 * element is in. Kernels run in pieces where that makes do with fewer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement, type Limits } from "../core/backend.ts";
import { formatBytes } from "../core/budget.ts";
import { DeviceError } from "../core/errors.ts";
import {
  leafMapper,
  mapKernel,
  timesOf,
  viewMapper,
} from "../core/plan/expression.ts";
import type { Kernel, SimpleKernel, Step, View } from "../core/plan/kernel.ts";
import {
  bindingsOf,
  bindingsOfPoint,
  reachOf,
  windowsOf,
} from "../core/plan/reach.ts";

/** The bytes at which the bindings of each buffer of a kernel begin. */
export type Windows = ReadonlyMap<number, readonly number[]>;

/** A step and its bindings. Addresses count from the beginning of the first binding of a buffer. */
export interface WindowedStep extends Step {
  /** Bindings of each buffer that the kernel reaches. */
  readonly windows: Windows;
}

/** What kernels may reach on a device. */
export interface GpuLimits extends Limits {
  /** Bindings begin at multiples of so many bytes. */
  readonly bindingStep: number;
}

/**
 * A step in pieces that run one after another, each with no more bindings than there are. What lies behind `ends` is
 * read only to be thrown away.
 */
export function withinBindings(
  step: Step,
  limits: GpuLimits,
  ends: ReadonlyMap<number, number>,
): WindowedStep[] {
  const { kernel } = step;
  const windows = windowsOf(
    reachOf(kernel).map((reach) => {
      const end = Math.min(reach.end, ends.get(reach.buffer) ?? Infinity);
      return { ...reach, first: Math.min(reach.first, end - 1), end };
    }),
    limits.bytesPerBinding,
    limits.bindingStep,
  );
  const count = [...windows.values()].flat().length;
  const fits = count <= limits.buffersPerKernel;
  if (kernel.kind === "group") {
    return fits
      ? [rebased(step, windows)]
      : kernel.parts.flatMap((part) =>
        withinBindings({ ...step, kernel: part }, limits, ends)
      );
  }
  const fewest = bindingsOfPoint(kernel, limits);
  if (count === fewest && fits) return [rebased(step, windows)];
  const halves = fewest <= limits.buffersPerKernel ? halved(kernel) : null;
  // Pieces of single bindings need not look for theirs.
  const isBetter = halves?.every((half) => bindingsOf(half, limits) === fewest);
  if (fits && !isBetter) return [rebased(step, windows)];
  if (!halves) throw tooMany(kernel, count, limits);
  return halves.flatMap((half) =>
    withinBindings({ ...step, kernel: half }, limits, ends)
  );
}

function tooMany(
  kernel: SimpleKernel,
  count: number,
  { buffersPerKernel, bytesPerBinding }: Limits,
): DeviceError {
  const most = Math.max(...reachOf(kernel).map(({ end }) => end));
  return new DeviceError(
    `Cannot bind the tensors of a kernel: it reaches ${
      formatBytes(most)
    } of one and takes ${count} bindings of ${
      formatBytes(bytesPerBinding)
    }, where there are ${buffersPerKernel}; smaller tensors need less`,
  );
}

/** A step whose views count from the first binding of each buffer. */
function rebased(step: Step, windows: Windows): WindowedStep {
  if ([...windows.values()].every(([first]) => first === 0)) {
    return { ...step, windows };
  }
  const view = (
    { offset, strides }: View,
    buffer: number,
    times = 1,
  ): View => {
    const bytes = bytesPerElement(step.dtypes[buffer]!) / times;
    return { offset: offset - windows.get(buffer)![0]! / bytes, strides };
  };
  const expr = leafMapper((e) =>
    "buffer" in e ? { ...e, view: view(e.view, e.buffer, timesOf(e)) } : e
  );
  const move = (part: SimpleKernel): SimpleKernel =>
    mapKernel(part, { buffer: (b) => b, expr: (e) => expr(e)!, view });
  const { kernel } = step;
  const moved: Kernel = kernel.kind === "group"
    ? { ...kernel, parts: kernel.parts.map(move) }
    : move(kernel);
  return { ...step, kernel: moved, windows };
}

/** A kernel in two, along the axis that makes each reach least; null where none does. */
function halved(kernel: SimpleKernel): SimpleKernel[] | null {
  let least = lengthOf(kernel), best: number | null = null;
  kernel.shape.forEach((extent, axis) => {
    if (extent < 2) return;
    const length = lengthOf(sliced(kernel, axis, 0, half(extent)));
    if (length < least) [least, best] = [length, axis];
  });
  if (best === null) return null;
  const extent = kernel.shape[best]!;
  const first = half(extent);
  return [
    sliced(kernel, best, 0, first),
    sliced(kernel, best, first, extent - first),
  ];
}

/** Half of an extent or a little more, so that vectors stay whole and pieces alike. */
function half(extent: number): number {
  const unit = extent >= 128 ? 64 : extent >= 8 ? 4 : 1;
  return Math.ceil(extent / 2 / unit) * unit;
}

function lengthOf(kernel: SimpleKernel): number {
  return reachOf(kernel).reduce((sum, r) => sum + r.end - r.first, 0);
}

/** The part of a kernel from a position on along an axis of its shape. */
export function sliced(
  kernel: SimpleKernel,
  axis: number,
  from: number,
  size: number,
): SimpleKernel {
  const view = ({ offset, strides }: View): View => ({
    offset: offset + from * strides[axis]!,
    strides,
  });
  const expr = viewMapper(view);
  const moved = {
    ...mapKernel(kernel, { buffer: (b) => b, expr: (e) => expr(e)!, view }),
    shape: kernel.shape.with(axis, size),
  };
  if (moved.kind !== "matmul" || kernel.kind !== "matmul") return moved;
  // In the place of that axis the operands have the inner one.
  const rank = kernel.shape.length;
  return {
    ...moved,
    a: axis === rank - 1 ? kernel.a : moved.a,
    b: axis === rank - 2 ? kernel.b : moved.b,
  };
}

/** The name of a binding of a buffer. */
export function bindingName(buffer: number, window: number): string {
  return window === 0 ? `b${buffer}` : `b${buffer}_${window}`;
}

/** A function that loads an element of a buffer, which is an array of a type, whatever binding it is in. */
export function loadFunction(
  buffer: number,
  type: string,
  starts: readonly number[],
): string {
  return `fn load_b${buffer}(i: u32) -> ${type} {
${eachWindow(buffer, starts, "i", (element) => `return ${element};`)}
}`;
}

/** A function that stores an element likewise. */
export function storeFunction(
  buffer: number,
  type: string,
  starts: readonly number[],
): string {
  return `fn store_b${buffer}(i: u32, value: ${type}) {
${eachWindow(buffer, starts, "i", (element) => `${element} = value;`)}
}`;
}

/** Statements for the binding that the element at an address is in. */
export function eachWindow(
  buffer: number,
  starts: readonly number[],
  address: string,
  statements: (element: string) => string,
): string {
  return starts.map((start, window) => {
    const at = window === 0 ? address : `(${address}) - ${start}u`;
    return statements(`${bindingName(buffer, window)}[${at}]`);
  }).reduce((before, text, window) =>
    `if ((${address}) >= ${starts[window]}u) { ${text} } else { ${before} }`
  );
}
