/**
 * Kernels by plain loops in double precision: what the shaders are compared with.
 *
 * @module
 */

import type { Data, DType } from "../../core/dtype.ts";
import { rounded } from "../../core/half.ts";
import type {
  Expr,
  Kernel,
  Output,
  ReduceKernel,
  ScalarOp,
  View,
} from "../../core/plan/kernel.ts";
import type { Shape } from "../../core/shape.ts";
import { unpacked } from "../support/scalars.ts";

/** Runs a kernel on its buffers, in place. */
export function runNaively(kernel: Kernel, buffers: readonly Data[]): void {
  switch (kernel.kind) {
    case "group":
      kernel.parts.forEach((part) => runNaively(part, buffers));
      return;
    case "map":
      for (const at of points(kernel.shape)) {
        store(kernel.outputs, buffers, at, []);
      }
      return;
    case "reduce":
      for (const at of points(kernel.shape)) reduce(kernel, buffers, at);
      return;
    case "matmul":
      for (const at of points(kernel.shape)) {
        const batch = at.slice(0, -2);
        const [i, j] = at.slice(-2) as [number, number];
        let acc = 0;
        for (let k = 0; k < kernel.k; k++) {
          const a = buffers[kernel.a.buffer]!;
          const b = buffers[kernel.b.buffer]!;
          acc += a[place(kernel.a.view, [...batch, i, k])]! *
            b[place(kernel.b.view, [...batch, k, j])]!;
        }
        store(kernel.outputs, buffers, at, [acc]);
      }
      return;
    case "scatter":
      for (const at of points(kernel.shape)) {
        const index = evaluate(kernel.index, buffers, at, []);
        const near = Math.min(Math.max(index, 0), kernel.size - 1);
        buffers[kernel.buffer]![
          place(kernel.view, at) + kernel.stride * near
        ]! += evaluate(kernel.source, buffers, at, []);
      }
  }
}

function reduce(
  { over, passes, outputs }: ReduceKernel,
  buffers: readonly Data[],
  at: readonly number[],
): void {
  const accs: number[] = [];
  for (const { reductions, outputs } of passes) {
    const own = reductions.map(({ combine }) =>
      combine === "sum" ? 0 : -Infinity
    );
    for (const term of points(over)) {
      const point = [...at, ...term];
      const values = reductions.map(({ body }) =>
        evaluate(body, buffers, point, accs)
      );
      store(outputs, buffers, point, accs);
      reductions.forEach(({ combine }, i) => {
        own[i] = combine === "sum"
          ? own[i]! + values[i]!
          : Math.max(own[i]!, values[i]!);
      });
    }
    accs.push(...own);
  }
  store(outputs, buffers, at, accs);
}

/** All points of a shape in order. */
export function* points(shape: Shape): Generator<number[]> {
  const [extent, ...rest] = shape;
  if (extent === undefined) {
    yield [];
    return;
  }
  for (let i = 0; i < extent; i++) {
    for (const point of points(rest)) yield [i, ...point];
  }
}

function place({ offset, strides }: View, at: readonly number[]): number {
  return strides.reduce(
    (sum, stride, axis) => sum + stride * at[axis]!,
    offset,
  );
}

function store(
  outputs: readonly Output[],
  buffers: readonly Data[],
  at: readonly number[],
  accs: readonly number[],
): void {
  const values = outputs.map(({ expr }) => evaluate(expr, buffers, at, accs));
  outputs.forEach(({ buffer, view }, i) => {
    buffers[buffer]![place(view, at)] = values[i]!;
  });
}

function evaluate(
  expr: Expr,
  buffers: readonly Data[],
  at: readonly number[],
  accs: readonly number[],
): number {
  switch (expr.kind) {
    case "load":
      return buffers[expr.buffer]![place(expr.view, at)]!;
    case "gather": {
      const index = evaluate(expr.index, buffers, at, accs);
      const near = Math.min(Math.max(index, 0), expr.size - 1);
      return buffers[expr.buffer]![place(expr.view, at) + expr.stride * near]!;
    }
    case "repeat": {
      const repeated = Math.floor(place(expr.view, at) / expr.times);
      return buffers[expr.buffer]![repeated]!;
    }
    case "unpack":
      return unpacked(
        expr.levels,
        place(expr.view, at),
        (word) => buffers[expr.buffer]![word]!,
      );
    case "const":
      return expr.value;
    case "index":
      return place(expr.view, at);
    case "acc":
      return accs[expr.index]!;
    case "cast":
      return convert(
        evaluate(expr.arg, buffers, at, accs),
        expr.arg.dtype,
        expr.dtype,
      );
    case "call": {
      const args = expr.args.map((arg) => evaluate(arg, buffers, at, accs));
      return scalar(expr.op, args, expr.args.at(-1)!.dtype);
    }
  }
}

/** A value in another dtype. */
export function convert(value: number, from: DType, to: DType): number {
  switch (to) {
    case "f32":
      return Math.fround(value);
    case "f16":
    case "bf16":
      return rounded(value, to);
    case "bool":
      return value === 0 ? 0 : 1;
    case "i32":
      return from === "f32" ? clamp(value, -(2 ** 31), 2 ** 31 - 1) : value | 0;
    case "u32":
      return from === "f32" ? clamp(value, 0, 2 ** 32 - 1) : value >>> 0;
  }
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(Math.trunc(value) || 0, low), high);
}

/** A scalar function on operands of a dtype. */
export function scalar(
  op: ScalarOp,
  [a = 0, b = 0, c = 0]: readonly number[],
  dtype: DType,
): number {
  const wrap = (value: number): number =>
    dtype === "i32" ? value | 0 : dtype === "u32" ? value >>> 0 : value;
  switch (op) {
    case "neg":
      return wrap(-a);
    case "add":
      return wrap(a + b);
    case "sub":
      return wrap(a - b);
    case "mul":
      return dtype === "f32" ? a * b : wrap(Math.imul(a, b));
    case "div":
      return dtype === "f32" ? a / b : b === 0 ? 0 : wrap(Math.trunc(a / b));
    case "pow":
      return a ** b;
    case "maximum":
      return Math.max(a, b);
    case "minimum":
      return Math.min(a, b);
    case "eq":
      return Number(a === b);
    case "lt":
      return Number(a < b);
    case "and":
      return a & b;
    case "or":
      return a | b;
    case "not":
      return 1 - a;
    case "select":
      return a ? b : c;
    case "erf":
      return erf(a);
    case "threefry":
      throw new Error("Threefry has known answers instead");
    default:
      return Math[op](a);
  }
}

/** The error function by its series, and by its continued fraction where that converges slowly. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const t = Math.abs(x);
  if (t > 6) return Math.sign(x);
  if (t < 3) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-18; n++) {
      term *= -x * x / n;
      sum += term / (2 * n + 1);
      if (n > 200) break;
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = t;
  for (let n = 60; n > 0; n--) fraction = t + n / 2 / fraction;
  const tail = Math.exp(-t * t) / Math.sqrt(Math.PI) / fraction;
  return Math.sign(x) * (1 - tail);
}
