/**
 * Plans by hand, run on the wasm backend and by naive loops.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { Backend } from "../../../core/backend.ts";
import { openBlas } from "../../../core/cpu/blas.ts";
import { createWasmBackend, type WasmOptions } from "../../../core/cpu/wasm.ts";
import { hasWideMemory } from "../../../core/cpu/address_bits.ts";
import type { Data, DType } from "../../../core/dtype.ts";
import { isHalf, narrow, rounded, widen } from "../../../core/half.ts";
import type {
  Expr,
  Kernel,
  Matrix,
  Output,
  Plan,
  Reduction,
  SimpleKernel,
  View,
} from "../../../core/plan/kernel.ts";
import { type Shape, stridesOf } from "../../../core/shape.ts";
import { unpacked } from "../../support/scalars.ts";

/**
 * The backend with fused multiply-add where there is one, without, with all work divided among threads, and with
 * addresses of 64 bits.
 */
export const backends: Record<string, Backend> = {
  "relaxed simd": createWasmBackend({ threads: 1 }),
  "plain simd": createWasmBackend({ relaxed: false, threads: 1 }),
  "3 threads": createWasmBackend({ threads: 3, eager: true }),
  "64-bit memory": openWide(2),
};

/**
 * A backend with all work divided that has addresses of 64 bits, where the engine has them, and nothing below 4 GiB:
 * what is not touched takes no memory.
 */
export function openWide(threads: number, more: WasmOptions = {}): Backend {
  const options = { threads, eager: true, ...more };
  if (!hasWideMemory()) return createWasmBackend(options);
  const backend = createWasmBackend({ ...options, bytes: 2 ** 33 });
  for (let i = 0; i < 3; i++) {
    backend.create({ shape: [3 * 2 ** 27], dtype: "f32" });
  }
  return backend;
}

/** Whether a BLAS is installed; its tests are ignored where none is. */
export const hasBlas: boolean = isOpened("auto");

/** The backend with whatever a BLAS can take given to it; null where there is none. */
export const blasBackends: Record<string, Backend | null> = {
  "BLAS": openBlasBackend(1),
  "BLAS, 3 threads": openBlasBackend(3),
  "BLAS, 64-bit memory": hasBlas ? openWide(2, { blas: "auto" }) : null,
};

function isOpened(wanted: string): boolean {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const found = openBlas(wanted, memory);
  if (!("close" in found)) return false;
  found.close();
  return true;
}

function openBlasBackend(threads: number): Backend | null {
  return hasBlas
    ? createWasmBackend({ threads, eager: true, blas: "auto" })
    : null;
}

/** Contents of a buffer. */
export interface Buffer {
  /** Element type. */
  readonly dtype: DType;
  /** Elements; numbers suffice where they are written before they are read. */
  readonly data: readonly number[];
}

/** Runs one kernel over buffers, all of them donated inputs; gives all buffers after it. */
export async function runKernel(
  backend: Backend,
  kernel: Kernel,
  buffers: readonly Buffer[],
): Promise<number[][]> {
  const inputs = buffers.map(({ dtype, data }) =>
    backend.upload(toData(data, dtype), dtype)
  );
  const plan: Plan = {
    inputs: buffers.length,
    outputs: buffers.map((_, index) => ({ kind: "input", index })),
    freed: [],
    steps: [{
      kernel,
      buffers: buffers.map((_, index) => ({ kind: "input", index })),
      dtypes: buffers.map((b) => b.dtype),
    }],
    pages: [],
    loops: [],
  };
  const graph = { inputs: [], outputs: [] };
  const program = backend.compile(graph, buffers.map(() => true), () => plan);
  const outputs = program.run(inputs);
  const results = await Promise.all(
    outputs.map((storage, i) =>
      backend.download(storage, buffers[i]!.dtype, buffers[i]!.data.length)
    ),
  );
  for (const storage of outputs) backend.free(storage);
  program.dispose();
  return results.map((data, i) => toNumbers(data, buffers[i]!.dtype));
}

/** Runs one kernel by naive loops in float64; gives all buffers after it. */
export function simulate(
  kernel: Kernel,
  buffers: readonly Buffer[],
): number[][] {
  const memory = buffers.map(({ dtype, data }) =>
    toNumbers(toData(data, dtype), dtype)
  );
  const parts = kernel.kind === "group" ? kernel.parts : [kernel];
  for (const part of parts) simulateIn(memory, part);
  return memory.map((data, i) => {
    const { dtype } = buffers[i]!;
    return toNumbers(toData(data, dtype), dtype);
  });
}

function simulateIn(memory: number[][], kernel: SimpleKernel): void {
  // Only the passes of a reduction read what the kernel has stored.
  const old = kernel.kind === "reduce"
    ? memory
    : memory.map((data) => [...data]);
  const at = ({ offset, strides }: View, index: readonly number[]) =>
    strides.reduce((sum, s, i) => sum + s * index[i]!, offset);
  const value = (
    expr: Expr,
    index: readonly number[],
    accs: readonly number[] = [],
  ): number => {
    switch (expr.kind) {
      case "load":
        return old[expr.buffer]![at(expr.view, index)]!;
      case "gather": {
        const picked = value(expr.index, index, accs);
        const clamped = Math.max(0, Math.min(picked, expr.size - 1));
        return old[expr.buffer]![at(expr.view, index) + expr.stride * clamped]!;
      }
      case "repeat":
        return old[expr.buffer]![
          Math.floor(at(expr.view, index) / expr.times)
        ]!;
      case "unpack":
        return unpacked(
          expr.levels,
          at(expr.view, index),
          (word) => old[expr.buffer]![word]!,
        );
      case "const":
        return expr.value;
      case "index":
        return convert(at(expr.view, index), expr.dtype);
      case "acc":
        return accs[expr.index] ?? NaN;
      case "cast":
        return convert(value(expr.arg, index, accs), expr.dtype);
      case "call": {
        const args = expr.args.map((arg) => value(arg, index, accs));
        const scalar = scalars[expr.op];
        if (!scalar) throw new Error(`no naive form of ${expr.op}`);
        return scalar(args[0]!, args[1]!, args[2]!, expr.dtype);
      }
    }
  };
  const storeAll = (
    outputs: readonly Output[],
    index: number[],
    accs?: readonly number[],
  ) => {
    const values = outputs.map(({ expr }) => value(expr, index, accs));
    outputs.forEach(({ buffer, view }, i) =>
      memory[buffer]![at(view, index)] = values[i]!
    );
  };
  for (const index of points(kernel.shape)) {
    switch (kernel.kind) {
      case "map":
        storeAll(kernel.outputs, index);
        break;
      case "reduce": {
        const accs: number[] = [];
        for (const { reductions, outputs } of kernel.passes) {
          const running = reductions.map(least);
          for (const inner of points(kernel.over)) {
            const point = [...index, ...inner];
            reductions.forEach(({ combine, body }, i) => {
              const x = value(body, point, accs), y = running[i]!;
              running[i] = combine === "sum" ? y + x : Math.max(y, x);
            });
            storeAll(outputs, point, accs);
          }
          accs.push(...running.map((acc, i) => {
            const { dtype } = reductions[i]!.body;
            return dtype === "f32" ? acc : convert(acc, dtype, true);
          }));
        }
        storeAll(kernel.outputs, index, accs);
        break;
      }
      case "matmul": {
        const { a, b, k, outputs } = kernel;
        const batch = index.slice(0, -2);
        const [i, j] = index.slice(-2) as [number, number];
        const element = ({ buffer, view, expr }: Matrix, point: number[]) =>
          expr ? value(expr, point) : old[buffer]![at(view, point)]!;
        let acc = 0;
        for (let p = 0; p < k; p++) {
          const x = element(a, [...batch, i, p]);
          acc += x * element(b, [...batch, p, j]);
        }
        storeAll(outputs, index, [acc]);
        break;
      }
      case "scatter": {
        const { buffer, view, stride, size, source } = kernel;
        const picked = Math.max(
          0,
          Math.min(value(kernel.index, index), size - 1),
        );
        const to = at(view, index) + stride * picked;
        memory[buffer]![to]! += value(source, index);
      }
    }
  }
}

/** What a reduction of nothing gives. */
function least({ combine, body }: Reduction): number {
  if (combine === "sum" || body.dtype === "u32") return 0;
  return body.dtype === "i32" ? -(2 ** 31) : -Infinity;
}

/** Every index of a shape, the last axis fastest. */
export function points(shape: Shape): number[][] {
  return shape.reduce<number[][]>(
    (all, extent) =>
      all.flatMap((index) =>
        Array.from({ length: extent }, (_, i) => [...index, i])
      ),
    [[]],
  );
}

/** The view of a whole buffer. */
export function whole(shape: Shape): View {
  return { offset: 0, strides: stridesOf(shape) };
}

/** A view over a shape, the axes in an order, and the size of the buffer that it needs. */
export function viewOf(
  shape: Shape,
  order: readonly number[],
  step: readonly number[],
): { view: View; size: number } {
  const axes = order.filter((axis) => axis < shape.length);
  const strides = new Array<number>(shape.length).fill(0);
  let size = 1, offset = 0;
  for (const axis of axes.toReversed()) {
    const distance = size * Math.abs(step[axis]!);
    strides[axis] = size * step[axis]!;
    if (step[axis]! < 0) offset += distance * Math.max(0, shape[axis]! - 1);
    if (step[axis] !== 0) size = distance * Math.max(1, shape[axis]!);
  }
  return { view: { offset: offset + 3, strides }, size: size + 3 };
}

/** A load. */
export function load(buffer: number, view: View, dtype: DType = "f32"): Expr {
  return { kind: "load", buffer, view, dtype };
}

/** What a reduction has computed. */
export function acc(index = 0, dtype: DType = "f32"): Expr {
  return { kind: "acc", index, dtype };
}

/** A number. */
export function constant(value: number, dtype: DType = "f32"): Expr {
  return { kind: "const", value, dtype };
}

/** A call whose result has the dtype of its last operand unless another is given. */
export function call(
  op: Extract<Expr, { kind: "call" }>["op"],
  args: readonly Expr[],
  dtype: DType = args.at(-1)!.dtype,
): Expr {
  return { kind: "call", op, args, dtype };
}

/** Pseudo-random numbers from -1 to 1. */
export function noise(count: number, seed = 1): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return Math.fround(state / 2 ** 31);
  });
}

/** Asserts that two arrays agree within `relative` of the larger of the expected number and `scale`. */
export function assertClose(
  actual: readonly number[],
  expected: readonly number[],
  relative: number,
  scale = 0,
): void {
  assert(actual.length === expected.length, "lengths differ");
  actual.forEach((x, i) => {
    const y = expected[i]!;
    const near = Object.is(x, y) || x === y ||
      Math.abs(x - y) <= relative * Math.max(Math.abs(y), scale);
    assert(near, `element ${i} is ${x}, not ${y}`);
  });
}

type Scalar = (a: number, b: number, c: number, dtype: DType) => number;

const scalars: Partial<Record<string, Scalar>> = {
  add: (a, b, _, dtype) => convert(a + b, dtype, true),
  sub: (a, b, _, dtype) => convert(a - b, dtype, true),
  mul: (a, b, _, dtype) =>
    dtype === "f32" ? a * b : convert(Math.imul(a, b), dtype, true),
  div: (a, b, _, dtype) =>
    dtype === "f32"
      ? a / b
      : b === 0
      ? 0
      : convert(Math.trunc(a / b), dtype, true),
  pow: (a, b, _, dtype) =>
    dtype === "f32" ? Math.pow(a, b) : Math.trunc(Math.pow(a, b)),
  neg: (a, _, __, dtype) => convert(-a, dtype, true),
  abs: Math.abs,
  sign: Math.sign,
  floor: Math.floor,
  sqrt: Math.sqrt,
  exp: Math.exp,
  tanh: Math.tanh,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  eq: (a, b) => a === b ? 1 : 0,
  lt: (a, b) => a < b ? 1 : 0,
  not: (a) => a ? 0 : 1,
  and: (a, b) => a && b,
  or: (a, b) => a || b,
  select: (a, b, c) => a ? b : c,
};

/** A number as one of a dtype: integers saturate, or wrap. */
function convert(x: number, dtype: DType, wraps = false): number {
  switch (dtype) {
    case "f32":
      return wraps ? x : Math.fround(x);
    case "f16":
    case "bf16":
      return rounded(x, dtype);
    case "bool":
      return x !== 0 ? 1 : 0;
    case "i32":
      if (wraps) return x | 0;
      return Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, Math.trunc(x))) || 0;
    case "u32":
      if (wraps) return x >>> 0;
      return Math.max(0, Math.min(2 ** 32 - 1, Math.trunc(x))) || 0;
  }
}

function toNumbers(data: Data, dtype: DType): number[] {
  return Array.from(isHalf(dtype) ? widen(data, dtype) : data);
}

function toData(values: readonly number[], dtype: DType): Data {
  switch (dtype) {
    case "f16":
    case "bf16":
      return narrow(values, dtype);
    case "f32":
      return Float32Array.from(values);
    case "i32":
      return Int32Array.from(values);
    case "u32":
      return Uint32Array.from(values);
    case "bool":
      return Uint8Array.from(values);
  }
}
