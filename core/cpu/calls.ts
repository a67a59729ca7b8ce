/**
 * What the scalar functions of kernels are in vector instructions. A bool is a mask of all bits or none.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import { bitsOf, isHalf } from "../half.ts";
import type { Expr, ScalarOp } from "../plan/kernel.ts";
import * as half from "./half.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, i32x4, v128 } from "./opcodes.ts";
import * as math from "./vector_math.ts";
import { threefry } from "./threefry.ts";

type Rule = (v: Lanes, args: readonly Vec[], dtype: DType) => Vec;

/** One rule a function, given the operands and the dtype of the last one. */
const rules: { readonly [K in ScalarOp]: Rule } = {
  neg: byDtype(f32x4.neg, i32x4.neg),
  abs: byDtype(f32x4.abs, i32x4.abs),
  sign: (v, [x], dtype) => {
    if (dtype === "i32") {
      return v.i32(i32x4.maxS, v.i32(i32x4.minS, x!, 1), -1);
    }
    const unit = v.f32(v128.or, v.f32(v128.and, x!, -0), 1);
    const nonzero = v.f32(f32x4.gt, v.f32(f32x4.abs, x!), 0);
    return v.select(nonzero, unit, x!);
  },
  floor: byDtype(f32x4.floor),
  sqrt: byDtype(f32x4.sqrt),
  exp: (v, [x]) => math.exp(v, x!),
  expm1: (v, [x]) => math.expm1(v, x!),
  log: (v, [x]) => math.log(v, x!),
  log1p: (v, [x]) => math.log1p(v, x!),
  sin: (v, [x]) => math.sin(v, x!),
  cos: (v, [x]) => math.cos(v, x!),
  tanh: (v, [x]) => math.tanh(v, x!),
  erf: (v, [x]) => math.erf(v, x!),
  not: (v, [x]) => v.i32(v128.not, x!),
  add: byDtype(f32x4.add, i32x4.add),
  sub: byDtype(f32x4.sub, i32x4.sub),
  mul: byDtype(f32x4.mul, i32x4.mul),
  div: (v, [a, b], dtype) =>
    dtype === "f32"
      ? v.f32(f32x4.div, a!, b!)
      : integerDiv(v, a!, b!, dtype === "i32"),
  pow: (v, [a, b], dtype) =>
    dtype === "f32"
      ? math.pow(v, a!, b!)
      : math.integerPow(v, a!, b!, dtype === "i32"),
  maximum: byDtype(f32x4.max, i32x4.maxS, i32x4.maxU),
  minimum: byDtype(f32x4.min, i32x4.minS, i32x4.minU),
  eq: byDtype(f32x4.eq, i32x4.eq),
  // As masks, false is 0 and true is -1.
  lt: byDtype(f32x4.lt, i32x4.ltS, i32x4.ltU, i32x4.gtS),
  and: byDtype(v128.and),
  or: byDtype(v128.or),
  select: (v, [condition, a, b]) => v.select(condition!, a!, b!),
  threefry: (v, [key0, key1, i, stream]) =>
    threefry(v, key0!, key1!, i!, stream!),
};

/** Emits a call of a kernel; `args` are the operands of `expr` in locals. */
export function call(
  v: Lanes,
  expr: Extract<Expr, { kind: "call" }>,
  args: readonly Vec[],
): Vec {
  const last = expr.args.at(-1)!;
  if (expr.op === "pow" && last.kind === "const" && last.value === 2) {
    return rules.mul(v, [args[0]!, args[0]!], last.dtype);
  }
  if (expr.op === "maximum" && last.kind === "const" && last.value === 0) {
    // NaN ≤ 0 is false, so NaN stays; a fifth of the time of the general form.
    if (last.dtype === "f32") {
      return v.f32(v128.andnot, args[0]!, v.f32(f32x4.le, args[0]!, 0));
    }
  }
  return rules[expr.op](v, args, last.dtype);
}

/** Emits a conversion. */
export function cast(v: Lanes, x: Vec, from: DType, to: DType): Vec {
  if (from === to) return x;
  if (isHalf(from)) return cast(v, half.widen(v, x, from), "f32", to);
  if (isHalf(to)) return half.narrow(v, cast(v, x, from, "f32"), to);
  if (from === "bool") {
    return to === "f32" ? v.f32(v128.and, x, 1) : v.i32(v128.and, x, 1);
  }
  switch (to) {
    case "bool":
      return from === "f32" ? v.f32(f32x4.ne, x, 0) : v.i32(i32x4.ne, x, 0);
    case "f32":
      return v.f32(from === "i32" ? f32x4.convertS : f32x4.convertU, x);
    case "i32":
      return from === "f32" ? v.i32(i32x4.truncSatS, x) : x;
    case "u32":
      return from === "f32" ? v.i32(i32x4.truncSatU, x) : x;
  }
}

/** A number in all lanes. */
export function constant(v: Lanes, value: number, dtype: DType): Vec {
  if (dtype === "f32") return v.float(value);
  if (isHalf(dtype)) return v.integer(bitsOf(value, dtype));
  return v.integer(dtype === "bool" ? (value ? -1 : 0) : value);
}

function byDtype(f32: number, i32 = f32, u32 = i32, bool = i32): Rule {
  // Halves are only moved and cast.
  const opcodes = { f32, i32, u32, bool, f16: u32, bf16: u32 };
  return (v, args, dtype) => v.i32(opcodes[dtype], ...args);
}

/** Quotients toward zero, lane by lane; 0 by zero, and the most negative number by -1 wraps. */
function integerDiv(v: Lanes, a: Vec, b: Vec, signed: boolean): Vec {
  const one = v.integer(1);
  const result = v.variable();
  v.assign(result, a);
  const zero = v.i32(i32x4.eq, b, 0);
  // Without a trap: x by 0 as x by 1, cleared below; x by -1 as -x.
  const minus = v.i32(i32x4.eq, b, -1);
  const odd = signed ? v.i32(v128.or, zero, minus) : zero;
  const divisor = v.select(odd, one, b);
  for (let lane = 0; lane < 4; lane++) {
    v.code.get(result.local);
    v.extract(a, lane);
    v.extract(divisor, lane);
    v.code.op(signed ? i32.divS : i32.divU);
    v.code.op(i32x4.replaceLane, lane).set(result.local);
  }
  const kept = v.i32(v128.andnot, result, zero);
  return signed ? v.select(minus, v.i32(i32x4.neg, a), kept) : kept;
}
