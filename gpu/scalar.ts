/**
 * Numbers, conversions and calls as WGSL text.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import { bitsOf, isHalf } from "../core/half.ts";
import type { ScalarOp } from "../core/plan/kernel.ts";
import {
  atWidth,
  type FunctionName,
  typeNames,
  type Width,
} from "./functions.ts";

const letters = {
  f32: "F",
  i32: "I",
  u32: "U",
  bool: "B",
  f16: "U",
  bf16: "U",
} as const;

/** The WGSL type of values of a dtype; halves are their bits. */
export function typeName(dtype: DType, width: Width): string {
  return typeNames[width][letters[dtype]];
}

/** A number. */
export function constant(value: number, dtype: DType, width: Width): string {
  const text = literal(value, dtype) ?? hidden(value, dtype);
  if (width === 4) return `${typeName(dtype, width)}(${text})`;
  return text.startsWith("-") ? `(${text})` : text;
}

/**
 * A number that comes out of a function, so that no compiler computes with it: WGSL rejects infinities, NaN and
 * overflow in what it computes at compile time.
 */
export function hiddenConstant(
  value: number,
  dtype: DType,
  width: Width,
): string {
  return dtype === "bool"
    ? constant(value, dtype, width)
    : `${typeName(dtype, width)}(${hidden(value, dtype)})`;
}

/** The text of a number where WGSL has one. */
function literal(value: number, dtype: DType): string | null {
  switch (dtype) {
    case "bool":
      return value ? "true" : "false";
    case "f16":
    case "bf16":
      return `${bitsOf(value, dtype)}u`;
    case "u32":
      return `${toWord(value, dtype)}u`;
    case "i32": {
      const whole = toWord(value, dtype) | 0;
      return whole === -(2 ** 31) ? null : `${whole}i`;
    }
    case "f32": {
      const float = Math.fround(value);
      if (!Number.isFinite(float) || Object.is(float, -0)) return null;
      const text = String(float);
      return /[.e]/.test(text) ? text : `${text}.0`;
    }
  }
}

function hidden(value: number, dtype: DType): string {
  return `bitcast<${typeName(dtype, 1)}>(word(${toWord(value, dtype)}u))`;
}

/** The bits of a number; integers wrap as in typed arrays, but -Infinity is the least of them. */
function toWord(value: number, dtype: DType): number {
  if (dtype === "f32") {
    return new Uint32Array(Float32Array.of(value).buffer)[0]!;
  }
  return dtype === "i32" && value === -Infinity ? 2 ** 31 : value >>> 0;
}

/** A use of a library function: its name at the width. */
export type Library = (name: FunctionName) => string;

/** A value converted to another dtype. */
export function convert(
  value: string,
  from: DType,
  to: DType,
  width: Width,
  library: Library,
): string {
  if (from === to) return value;
  if (isHalf(from)) {
    const float = `${library(`${from}_to_f32`)}(${value})`;
    return convert(float, "f32", to, width, library);
  }
  if (isHalf(to)) {
    const float = convert(value, from, "f32", width, library);
    return `${library(`f32_to_${to}`)}(${float})`;
  }
  const fit = (text: string): string => atWidth(text, width);
  if (to === "bool") {
    // By its bits, so that NaN counts as not zero.
    return from === "f32"
      ? fit(`(bitcast<U>(${value}) << U(1u)) != U(0u)`)
      : fit(`${value} != ${letters[from]}(0)`);
  }
  if (from === "bool") {
    return fit(`select(${letters[to]}(0), ${letters[to]}(1), ${value})`);
  }
  if (from === "f32") {
    return `${library(to === "i32" ? "to_i32" : "to_u32")}(${value})`;
  }
  return `${typeName(to, width)}(${value})`;
}

/** A scalar function of operands of a dtype. */
export function call(
  op: ScalarOp,
  operands: readonly string[],
  dtype: DType,
  library: Library,
): string {
  const [a, b, c] = operands;
  const use = (name: FunctionName): string =>
    `${library(name)}(${operands.join(", ")})`;
  switch (op) {
    case "neg":
      return `-${a}`;
    case "add":
      return `${a} + ${b}`;
    case "sub":
      return `${a} - ${b}`;
    case "mul":
      return `${a} * ${b}`;
    case "div":
      if (dtype === "i32") return use("div_i32");
      if (dtype === "u32") return use("div_u32");
      return `${a} / ${b}`;
    case "maximum":
      return dtype === "f32" ? use(op) : `max(${a}, ${b})`;
    case "minimum":
      return dtype === "f32" ? use(op) : `min(${a}, ${b})`;
    case "sign":
      return dtype === "f32" ? use(op) : `sign(${a})`;
    case "abs":
    case "floor":
    case "sqrt":
      return `${op}(${a})`;
    case "eq":
      return `${a} == ${b}`;
    case "lt":
      return dtype === "bool" ? `!${a} & ${b}` : `${a} < ${b}`;
    case "and":
      return `${a} & ${b}`;
    case "or":
      return `${a} | ${b}`;
    case "not":
      return `!${a}`;
    case "select":
      return `select(${c}, ${b}, ${a})`;
    default:
      return use(op);
  }
}

/** A power with a constant exponent that a product or quotient gives more exactly, or null. */
export function smallPower(base: string, exponent: number): string | null {
  switch (exponent) {
    case -1:
      return `1.0 / ${base}`;
    case 1:
      return base;
    case 2:
      return `${base} * ${base}`;
    case 3:
      return `${base} * ${base} * ${base}`;
    default:
      return null;
  }
}
