/**
 * Single kernels as programs: run on a backend, and checked against plain loops.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import type { Backend, Graph } from "../../core/backend.ts";
import { type Data, type DType, dtypeOf } from "../../core/dtype.ts";
import { narrow, widen } from "../../core/half.ts";
import type {
  Expr,
  Kernel,
  Output,
  Plan,
  ReduceKernel,
  Reduction,
  ScalarOp,
} from "../../core/plan/kernel.ts";
import { writtenBy as storedBy } from "../../core/plan/place.ts";
import { type Shape, sizeOf } from "../../core/shape.ts";
import { runNaively } from "./naive.ts";

/** The graph that backends which run plans do not look at. */
export const noGraph: Graph = { inputs: [], outputs: [] };

/** A program of one kernel whose buffers are its inputs; those in `written` are donated and come back. */
export function kernelPlan(
  kernel: Kernel,
  dtypes: readonly DType[],
  written: readonly number[],
): Plan {
  return {
    inputs: dtypes.length,
    outputs: written.map((index) => ({ kind: "input", index })),
    freed: [],
    pages: [],
    loops: [],
    steps: [{
      kernel,
      buffers: dtypes.map((_, index) => ({ kind: "input", index })),
      dtypes,
    }],
  };
}

/** Buffers that a kernel writes, each once. */
export function writtenBy(kernel: Kernel): number[] {
  return [...new Set(storedBy(kernel))];
}

/** Runs a kernel on copies of its buffers: the buffers that it writes. */
export async function runKernel(
  backend: Backend,
  kernel: Kernel,
  buffers: readonly Data[],
): Promise<Data[]> {
  const written = writtenBy(kernel);
  const dtypes = buffers.map((data) => isBits(data) ? "bf16" : dtypeOf(data));
  const program = backend.compile(
    noGraph,
    buffers.map((_, i) => written.includes(i)),
    () => kernelPlan(kernel, dtypes, written),
  );
  const inputs = buffers.map((data, i) => backend.upload(data, dtypes[i]!));
  const outputs = program.run(inputs);
  const results = await Promise.all(outputs.map((storage, i) => {
    const buffer = written[i]!;
    return backend.download(storage, dtypes[buffer]!, buffers[buffer]!.length);
  }));
  inputs.forEach((storage) => backend.free(storage));
  program.dispose();
  return results;
}

/** Whether data are the bits of halves. */
function isBits(data: Data): data is Uint16Array {
  return data instanceof Uint16Array;
}

/** Checks a kernel against plain loops; the elements of a Uint16Array are bf16. */
export async function checkKernel(
  backend: Backend,
  kernel: Kernel,
  buffers: readonly Data[],
  tolerance = 1e-5,
): Promise<void> {
  const found = await runKernel(backend, kernel, buffers);
  const expected = buffers.map((data) =>
    isBits(data) ? widen(data, "bf16") : data.slice()
  );
  runNaively(kernel, expected);
  writtenBy(kernel).forEach((buffer, i) => {
    const data = expected[buffer]!;
    const wanted = isBits(buffers[buffer]!) ? narrow(data, "bf16") : data;
    assertClose(found[i]!, wanted, tolerance);
  });
}

/** Rounding errors of sums grow with the root of the number of terms. */
export function tolerance(kernel: Kernel): number {
  if (kernel.kind === "group") return Math.max(...kernel.parts.map(tolerance));
  const terms = kernel.kind === "reduce"
    ? sizeOf(kernel.over)
    : kernel.kind === "matmul"
    ? 4 * kernel.k
    : 1;
  return 5e-6 * Math.sqrt(Math.max(4, terms));
}

/** Asserts that all elements agree, relatively where they are large; integers must be equal. */
export function assertClose(
  found: Data,
  expected: Data,
  tolerance: number,
): void {
  assertEquals(found.length, expected.length);
  if (!(expected instanceof Float32Array)) {
    assertEquals(found, expected);
    return;
  }
  expected.forEach((value, i) => {
    if (Object.is(found[i], value)) return;
    assertAlmostEquals(
      found[i]!,
      value,
      tolerance * Math.max(1, Math.abs(value)),
      `element ${i}`,
    );
  });
}

/** A load. */
export function load(
  buffer: number,
  strides: readonly number[],
  dtype: DType = "f32",
  offset = 0,
): Expr {
  return { kind: "load", buffer, view: { offset, strides }, dtype };
}

/** A constant. */
export function fill(value: number, dtype: DType = "f32"): Expr {
  return { kind: "const", value, dtype };
}

/** A call. */
export function call(
  op: ScalarOp,
  args: readonly Expr[],
  dtype: DType = "f32",
): Expr {
  return { kind: "call", op, args, dtype };
}

/** What a reduction or a product has computed. */
export const acc: Expr = accAt(0);

/** What the reduction of a number has computed. */
export function accAt(index: number, dtype: DType = "f32"): Expr {
  return { kind: "acc", index, dtype };
}

/** A kernel with a single reduction. */
export function reduction(
  shape: Shape,
  over: Shape,
  combine: Reduction["combine"],
  body: Expr,
  outputs: readonly Output[],
): ReduceKernel {
  const passes = [{ reductions: [{ combine, body }], outputs: [] }];
  return { kind: "reduce", shape, over, passes, outputs };
}

/** Numbers between -2 and 2 that repeat only after long. */
export function wave(length: number, seed = 1): Float32Array {
  return Float32Array.from(
    { length },
    (_, i) => 2 * Math.sin(i * 1.7 * seed + seed),
  );
}
