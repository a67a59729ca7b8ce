/**
 * Rules that many primitives share: the kinds of rows in the op table, and the checks of operands.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type DType, isFloat } from "./dtype.ts";
import { DTypeError, invariant, ShapeError } from "./errors.ts";
import { isHalf } from "./half.ts";
import type { Node, None, Op } from "./node.ts";
import { format, sameShape, type Shape, type Type } from "./shape.ts";

type Elementwise = Op<None>;
type Vjp<P> = NonNullable<Op<P>["vjp"]>;

/** A unary elementwise op on floats; `vjp` gives the cotangent of its operand. */
export function unary(
  name: string,
  vjp: ((ct: Node, y: Node, x: Node) => Node) | null,
): Elementwise {
  return {
    kind: "elementwise",
    type: ([x]) => expectDType(name, x!, isFloat, "f32"),
    vjp: vjp && ((ct, y, [x]) => [vjp(ct, y, x!)]),
    batch: sameParams,
  };
}

/** A unary elementwise op on floats and signed integers. */
export function signed(
  name: string,
  vjp: ((ct: Node, y: Node, x: Node) => Node) | null,
): Elementwise {
  return {
    ...unary(name, vjp),
    type: ([x]) =>
      expectDType(name, x!, (d) => d === "f32" || d === "i32", "f32 or i32"),
  };
}

/** A binary elementwise op on numbers of one dtype. */
export function binary(name: string, vjp: Vjp<None> | null): Elementwise {
  return {
    kind: "elementwise",
    type: ([a, b]) => {
      expectNumber(name, a!);
      return expectAlike(name, a!, b!);
    },
    vjp,
    batch: sameParams,
  };
}

/** A binary elementwise op on floats. */
export function float(name: string, vjp: Vjp<None>): Elementwise {
  return {
    kind: "elementwise",
    type: ([a, b]) =>
      expectAlike(name, expectDType(name, a!, isFloat, "f32"), b!),
    vjp,
    batch: sameParams,
  };
}

/** A comparison of two tensors of one dtype. */
export function comparison(name: string): Elementwise {
  return {
    kind: "elementwise",
    type: ([a, b]) => {
      expectWide(name, a!);
      return { shape: expectAlike(name, a!, b!).shape, dtype: "bool" };
    },
    vjp: null,
    batch: sameParams,
  };
}

/** A binary op on bools. */
export function logical(name: string): Elementwise {
  return {
    kind: "elementwise",
    type: ([a, b]) =>
      expectAlike(name, expectDType(name, a!, (d) => d === "bool", "bool"), b!),
    vjp: null,
    batch: sameParams,
  };
}

/** A reduction over axes that are then gone. */
export function reduction(
  name: string,
  vjp: Vjp<{ axes: Shape }>,
): Op<{ axes: Shape }> {
  return {
    kind: "reduce",
    type: ([x], { axes }) => {
      expectNumber(name, x!);
      return {
        shape: x!.shape.filter((_, i) => !axes.includes(i)),
        dtype: x!.dtype,
      };
    },
    vjp,
    batch: shiftAxes,
  };
}

/** The batch rule where no parameter speaks of axes counted from the front. */
export function sameParams<P>(params: P): P {
  return params;
}

/** The batch rule of what runs along an axis. */
export function shiftAxis({ axis }: { axis: number }): { axis: number } {
  return { axis: axis + 1 };
}

/** The batch rule of what runs along axes. */
export function shiftAxes({ axes }: { axes: Shape }): { axes: Shape } {
  return { axes: axes.map((axis) => axis + 1) };
}

/** The batch rule of what names the whole shape of its result. */
export function prependSize(
  { shape }: { shape: Shape },
  size: number,
): { shape: Shape } {
  return { shape: [size, ...shape] };
}

/** Checks a dtype; the error says what was expected. */
export function expectDType(
  op: string,
  x: Type,
  ok: (dtype: DType) => boolean,
  expected: string,
): Type {
  if (ok(x.dtype)) return x;
  expectWide(op, x);
  throw new DTypeError(
    `Cannot ${op} ${format(x)}: it must be ${expected}; use cast`,
  );
}

/** Checks that an operand is a number to compute with. */
export function expectNumber(op: string, x: Type): Type {
  return expectDType(op, x, (d) => d !== "bool" && !isHalf(d), "a number");
}

/** Throws for f16 and bf16, which move and cast only. */
export function expectWide(op: string, x: Type): void {
  if (!isHalf(x.dtype)) return;
  throw new DTypeError(
    `Cannot ${op} ${
      format(x)
    }: ${x.dtype} is for storage, and computation is in f32; use cast`,
  );
}

/** Checks that two operands have one type. */
export function expectAlike(op: string, a: Type, b: Type): Type {
  if (a.dtype !== b.dtype) throw differ(op, a, b);
  invariant(
    sameShape(a.shape, b.shape),
    `${op} takes equal shapes, got ${format(a)} and ${format(b)}`,
  );
  return a;
}

/** Checks an index along an axis: i32, and equal to the operand in every other size. */
export function expectIndex(
  op: string,
  x: Type,
  index: Type,
  axis: number,
): void {
  if (index.dtype !== "i32") {
    throw new DTypeError(
      `Cannot ${op} ${format(x)} by ${format(index)}: an index is i32`,
    );
  }
  const fits = index.shape.length === x.shape.length &&
    x.shape.every((d, i) => i === axis || d === index.shape[i]);
  if (!fits) {
    throw new ShapeError(
      `Cannot ${op} ${format(x)} by ${
        format(index)
      } along axis ${axis}: all sizes but that axis must be equal`,
    );
  }
}

/** The error for two dtypes that do not go together. */
export function differ(
  op: string,
  a: Type,
  b: Type,
  rule = "the dtypes differ",
): DTypeError {
  return new DTypeError(
    `Cannot ${op} ${format(a)} and ${format(b)}: ${rule}; use cast`,
  );
}
