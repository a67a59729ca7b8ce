/**
 * The op table: everything the engine knows of each primitive, side by side.
 *
 * A primitive has a type rule (shape and dtype of its result), a VJP rule, written in primitives, and a batch rule. The
 * backends and the test samples are records over these names, so a new row does not compile until each has its part.
 *
 * Primitives take operands of equal shapes; broadcasting is a primitive of its own (`expand`).
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type DType, isFloat } from "./dtype.ts";
import type {
  Node,
  Op,
  OpName,
  PadParams,
  Params,
  SliceParams,
  UnpackParams,
} from "./node.ts";
import { DTypeError, invariant, ShapeError } from "./errors.ts";
import {
  binary,
  comparison,
  differ,
  expectAlike,
  expectDType,
  expectIndex,
  expectWide,
  float,
  logical,
  prependSize,
  reduction,
  sameParams,
  shiftAxes,
  shiftAxis,
  signed,
  unary,
} from "./rules.ts";
import { format, sameShape, type Shape, sizeOf, type Type } from "./shape.ts";

/** The primitives. Rules are in terms of the constructors below the table. */
export const ops: { readonly [K in OpName]: Op<Params[K]> } = {
  // Leaves: an argument or captured tensor; one number everywhere; the index along an axis.
  input: {
    kind: "leaf",
    type: () => invariant(false, "an input has no type rule") as never,
    vjp: null,
    batch: null,
  },
  fill: {
    kind: "leaf",
    type: (_, { shape, dtype }) => ({ shape, dtype }),
    vjp: null,
    batch: null,
  },
  iota: {
    kind: "leaf",
    type: (_, { shape, dtype }) => {
      expectWide("make iota of", { shape, dtype });
      return { shape, dtype };
    },
    vjp: null,
    batch: null,
  },

  // Unary.
  neg: signed("neg", (ct) => neg(ct)),
  abs: signed("abs", (ct, _, x) => mul(ct, sign(x))),
  sign: signed("sign", null),
  floor: unary("floor", null),
  sqrt: unary("sqrt", (ct, y) => div(ct, mul(fillLike(y, 2), y))),
  exp: unary("exp", (ct, y) => mul(ct, y)),
  expm1: unary("expm1", (ct, y) => mul(ct, add(y, fillLike(y, 1)))),
  log: unary("log", (ct, _, x) => div(ct, x)),
  log1p: unary("log1p", (ct, _, x) => div(ct, add(x, fillLike(x, 1)))),
  sin: unary("sin", (ct, _, x) => mul(ct, cos(x))),
  cos: unary("cos", (ct, _, x) => neg(mul(ct, sin(x)))),
  tanh: unary("tanh", (ct, y) => mul(ct, sub(fillLike(y, 1), mul(y, y)))),
  // erf'(x) = 2/√π · exp(-x²)
  erf: unary(
    "erf",
    (ct, _, x) =>
      mul(mul(ct, fillLike(x, 2 / Math.sqrt(Math.PI))), exp(neg(mul(x, x)))),
  ),
  not: {
    kind: "elementwise",
    type: ([x]) => expectDType("not", x!, (d) => d === "bool", "bool"),
    vjp: null,
    batch: sameParams,
  },
  cast: {
    kind: "elementwise",
    type: ([x], { dtype }) => ({ shape: x!.shape, dtype }),
    vjp: (
      ct,
      out,
      [x],
    ) => [isFloat(out.dtype) && isFloat(x!.dtype) ? ct : null],
    batch: sameParams,
  },
  // The same value under another identity: what `grad` differentiates by, so that a closed-over x is not mistaken for it.
  alias: {
    kind: "elementwise",
    type: ([x]) => x!,
    vjp: (ct) => [ct],
    batch: sameParams,
  },
  stopGradient: {
    kind: "elementwise",
    type: ([x]) => x!,
    vjp: null,
    batch: sameParams,
  },

  // Binary.
  add: binary("add", (ct) => [ct, ct]),
  sub: binary("sub", (ct) => [ct, neg(ct)]),
  mul: binary("mul", (ct, _, [a, b]) => [mul(ct, b!), mul(ct, a!)]),
  div: binary(
    "div",
    (ct, y, [_, b]) => [div(ct, b!), neg(div(mul(ct, y), b!))],
  ),
  // d/da a^b = b·a^(b-1), and 0 where b is 0; d/db a^b = a^b·log a, and 0 where a is 0
  pow: float("pow", (ct, y, [a, b]) => {
    const zero = fillLike(a!, 0);
    const logA = select(eq(a!, zero), zero, log(a!));
    const slope = mul(b!, pow(a!, sub(b!, fillLike(b!, 1))));
    return [
      mul(ct, select(eq(b!, zero), zero, slope)),
      mul(ct, mul(y, logA)),
    ];
  }),
  maximum: binary("maximum", (ct, y, [a, b]) => shareAmongTies(ct, y, a!, b!)),
  minimum: binary("minimum", (ct, y, [a, b]) => shareAmongTies(ct, y, a!, b!)),
  eq: comparison("eq"),
  lt: comparison("lt"),
  and: logical("and"),
  or: logical("or"),
  select: {
    kind: "elementwise",
    type: ([condition, a, b]) => {
      expectDType("select by", condition!, (d) => d === "bool", "bool");
      invariant(
        sameShape(condition!.shape, a!.shape),
        "select takes equal shapes",
      );
      expectWide("where", a!);
      return expectAlike("select", a!, b!);
    },
    vjp: (ct, _, [condition]) => {
      const zero = fillLike(ct, 0);
      return [null, select(condition!, ct, zero), select(condition!, zero, ct)];
    },
    batch: sameParams,
  },

  // Reductions.
  sum: reduction("sum", (ct, _, [x], { axes }) => [expandBack(ct, x!, axes)]),
  // Shared equally among ties.
  max: reduction("max", (ct, y, [x], { axes }) => {
    const ties = cast(eq(x!, expandBack(y, x!, axes)), x!.dtype);
    return [mul(ties, expandBack(div(ct, sum(ties, axes)), x!, axes))];
  }),

  // Movement.
  reshape: {
    kind: "move",
    type: ([x], { shape }) => {
      if (sizeOf(x!.shape) !== sizeOf(shape)) {
        throw new ShapeError(
          `Cannot reshape ${format(x!)} to [${shape.join(", ")}]: ${
            sizeOf(x!.shape)
          } elements are not ${sizeOf(shape)}`,
        );
      }
      return { shape, dtype: x!.dtype };
    },
    vjp: (ct, _, [x]) => [reshape(ct, x!.shape)],
    batch: prependSize,
  },
  transpose: {
    kind: "move",
    type: ([x], { perm }) => ({
      shape: perm.map((axis) => x!.shape[axis]!),
      dtype: x!.dtype,
    }),
    vjp: (
      ct,
      _,
      __,
      { perm },
    ) => [transpose(ct, perm.map((_, axis) => perm.indexOf(axis)))],
    batch: ({ perm }) => ({ perm: [0, ...perm.map((axis) => axis + 1)] }),
  },
  expand: {
    kind: "move",
    type: ([x], { shape }) => {
      const fits = shape.length === x!.shape.length &&
        x!.shape.every((d, i) => d === shape[i] || d === 1);
      if (!fits) {
        throw new ShapeError(
          `Cannot expand ${format(x!)} to [${
            shape.join(", ")
          }]: only axes of size 1 expand`,
        );
      }
      return { shape, dtype: x!.dtype };
    },
    vjp: (ct, out, [x]) => {
      const axes = x!.shape.flatMap((d, i) => d === out.shape[i] ? [] : [i]);
      return [reshape(sum(ct, axes), x!.shape)];
    },
    batch: prependSize,
  },
  slice: {
    kind: "move",
    type: ([x], { size }) => ({ shape: size, dtype: x!.dtype }),
    vjp: (ct, _, [x], { start, size, step }) => {
      const reach = size.map((n, i) => n === 0 ? 0 : (n - 1) * step[i]! + 1);
      const high = x!.shape.map((d, i) => d - start[i]! - reach[i]!);
      return [
        pad(ct, {
          low: start,
          high,
          interior: step.map((s) => s - 1),
          value: 0,
        }),
      ];
    },
    batch: ({ start, size, step }, n) => ({
      start: [0, ...start],
      size: [n, ...size],
      step: [1, ...step],
    }),
  },
  pad: {
    kind: "move",
    type: ([x], { low, high, interior }) => ({
      shape: x!.shape.map((d, i) =>
        low[i]! + high[i]! + (d === 0 ? 0 : (d - 1) * (interior[i]! + 1) + 1)
      ),
      dtype: x!.dtype,
    }),
    vjp: (ct, _, [x], { low, interior }) => [
      slice(ct, {
        start: low,
        size: x!.shape,
        step: interior.map((n) => n + 1),
      }),
    ],
    batch: ({ low, high, interior, value }) => ({
      low: [0, ...low],
      high: [0, ...high],
      interior: [0, ...interior],
      value,
    }),
  },
  flip: {
    kind: "move",
    type: ([x]) => x!,
    vjp: (ct, _, __, { axes }) => [flip(ct, axes)],
    batch: shiftAxes,
  },
  concat: {
    kind: "move",
    type: (inputs, { axis }) => {
      const [first] = inputs;
      const rest = (t: Type): Shape => t.shape.filter((_, i) => i !== axis);
      for (const t of inputs) {
        if (t.dtype !== first!.dtype) throw differ("concat", first!, t);
        if (!sameShape(rest(t), rest(first!))) {
          throw new ShapeError(
            `Cannot concat ${format(first!)} and ${
              format(t)
            } along axis ${axis}: the other sizes differ`,
          );
        }
      }
      const total = inputs.reduce((sum, t) => sum + t.shape[axis]!, 0);
      return {
        shape: first!.shape.map((d, i) => i === axis ? total : d),
        dtype: first!.dtype,
      };
    },
    vjp: (ct, _, inputs, { axis }) => {
      let at = 0;
      return inputs.map(({ shape }) => {
        const start = shape.map((_, i) => i === axis ? at : 0);
        at += shape[axis]!;
        return slice(ct, { start, size: shape, step: shape.map(() => 1) });
      });
    },
    batch: shiftAxis,
  },

  // Indexing along one axis, as torch.gather and scatter_add: out[i, j] = x[index[i, j], j] for axis 0.
  // An index outside the axis is taken as the nearest one inside.
  gather: {
    kind: "index",
    type: ([x, index], { axis }) => {
      expectIndex("gather", x!, index!, axis);
      return { shape: index!.shape, dtype: x!.dtype };
    },
    vjp: (
      ct,
      _,
      [x, index],
      { axis },
    ) => [scatterAdd(fillLike(x!, 0), index!, ct, axis), null],
    batch: shiftAxis,
  },
  scatterAdd: {
    kind: "index",
    type: ([x, index, source], { axis }) => {
      expectWide("scatterAdd into", x!);
      expectIndex("scatterAdd into", x!, index!, axis);
      if (!sameShape(index!.shape, source!.shape)) {
        throw new ShapeError(
          `Cannot scatterAdd ${format(source!)} by index ${
            format(index!)
          }: index and source differ in shape`,
        );
      }
      if (source!.dtype !== x!.dtype) throw differ("scatterAdd", x!, source!);
      return x!;
    },
    vjp: (ct, _, [__, index], { axis }) => [ct, null, gather(ct, index!, axis)],
    batch: shiftAxis,
  },

  // Bytes of words u32[..., n] as f32[..., 4 · n], or groups of four bits as the levels f32[..., 8 · n] of that number.
  unpack: {
    kind: "index",
    type: ([words], params) => {
      expectDType("unpack", words!, (d) => d === "u32", "u32");
      const { shape } = words!, last = shape.length - 1;
      invariant(last >= 0, "words have a last axis");
      const size = shape[last]! * fieldsOf(params);
      return { shape: shape.with(last, size), dtype: "f32" };
    },
    vjp: null,
    batch: sameParams,
  },

  // Random bits of a shape for each key u32[..., 2] and stream u32[...]: element i is word i mod 2 of
  // threefry2x32(key, [i div 2, stream]), 20 rounds (Salmon et al. 2011).
  random: {
    kind: "index",
    type: ([key, stream], { shape }) => {
      const batch = stream!.shape;
      const ok = key!.dtype === "u32" && stream!.dtype === "u32" &&
        sameShape(key!.shape, [...batch, 2]);
      if (!ok) {
        throw new DTypeError(
          `Cannot draw from ${
            format(key!)
          }: a key is u32[2], as random.key(seed) makes it`,
        );
      }
      return { shape: [...batch, ...shape], dtype: "u32" };
    },
    vjp: null,
    batch: sameParams,
  },

  // Batched matrix product [..., M, K] by [..., K, N]; the batch axes are equal.
  matmul: {
    kind: "product",
    type: ([a, b]) => {
      if (a!.dtype !== "f32" || b!.dtype !== "f32") {
        throw differ("matmul", a!, b!, "both must be f32");
      }
      const [m, k] = a!.shape.slice(-2), [k2, n] = b!.shape.slice(-2);
      if (k !== k2) {
        throw new ShapeError(
          `Cannot matmul ${format(a!)} by ${
            format(b!)
          }: inner sizes ${k} and ${k2} differ`,
        );
      }
      return { shape: [...a!.shape.slice(0, -2), m!, n!], dtype: "f32" };
    },
    vjp: (
      ct,
      _,
      [a, b],
    ) => [matmul(ct, swapLast(b!)), matmul(swapLast(a!), ct)],
    batch: sameParams,
  },

  // Sub-graphs. A tuple has no type of its own; its parameters know how to differentiate it, core/batch.ts how to batch it.
  call: { kind: "tuple", type: () => tuple, vjp: null, batch: null },
  scan: { kind: "tuple", type: () => tuple, vjp: null, batch: null },
  part: {
    kind: "tuple",
    type: (_, { shape, dtype }) => ({ shape, dtype }),
    vjp: null,
    batch: (params, n) => ({ ...params, shape: [n, ...params.shape] }),
  },
  after: {
    kind: "move",
    type: ([x]) => x!,
    vjp: (ct) => [ct, null],
    batch: sameParams,
  },
};

/** What stands for the type of a tuple. */
const tuple: Type = { shape: [], dtype: "f32" };

/** How many numbers a word holds. */
export function fieldsOf({ levels }: UnpackParams): 4 | 8 {
  return levels ? 8 : 4;
}

/** Applies a primitive: a node with the type that its rule gives. */
export function bind<K extends OpName>(
  op: K,
  inputs: readonly Node[],
  params: Params[K],
): Node {
  const { shape, dtype } = ops[op].type(inputs, params);
  return { op, inputs, params, shape, dtype };
}

/** An argument of a traced function, or a tensor it captures. */
export function input(type: Type): Node {
  return {
    op: "input",
    inputs: [],
    params: {},
    shape: type.shape,
    dtype: type.dtype,
  };
}

/** One number everywhere. */
export function fill(type: Type, value: number): Node {
  return bind("fill", [], { shape: type.shape, dtype: type.dtype, value });
}

/** One value of a tuple. */
export function part(tuple: Node, index: number, type: Type): Node {
  const { shape, dtype } = type;
  return bind("part", [tuple], { index, shape, dtype });
}

// What the rules are written in.
const fillLike = fill;
const neg = (x: Node): Node => bind("neg", [x], {});
const sign = (x: Node): Node => bind("sign", [x], {});
const exp = (x: Node): Node => bind("exp", [x], {});
const log = (x: Node): Node => bind("log", [x], {});
const sin = (x: Node): Node => bind("sin", [x], {});
const cos = (x: Node): Node => bind("cos", [x], {});
const cast = (x: Node, dtype: DType): Node => bind("cast", [x], { dtype });
const add = (a: Node, b: Node): Node => bind("add", [a, b], {});
const sub = (a: Node, b: Node): Node => bind("sub", [a, b], {});
const mul = (a: Node, b: Node): Node => bind("mul", [a, b], {});
const div = (a: Node, b: Node): Node => bind("div", [a, b], {});
const pow = (a: Node, b: Node): Node => bind("pow", [a, b], {});
const eq = (a: Node, b: Node): Node => bind("eq", [a, b], {});
const select = (condition: Node, a: Node, b: Node): Node =>
  bind("select", [condition, a, b], {});
const sum = (x: Node, axes: Shape): Node => bind("sum", [x], { axes });
const reshape = (x: Node, shape: Shape): Node =>
  sameShape(x.shape, shape) ? x : bind("reshape", [x], { shape });
const transpose = (x: Node, perm: Shape): Node =>
  bind("transpose", [x], { perm });
const slice = (x: Node, params: SliceParams): Node =>
  bind("slice", [x], params);
const pad = (x: Node, params: PadParams): Node => bind("pad", [x], params);
const flip = (x: Node, axes: Shape): Node => bind("flip", [x], { axes });
const gather = (x: Node, index: Node, axis: number): Node =>
  bind("gather", [x, index], { axis });
const scatterAdd = (x: Node, index: Node, source: Node, axis: number): Node =>
  bind("scatterAdd", [x, index, source], { axis });
const matmul = (a: Node, b: Node): Node => bind("matmul", [a, b], {});

/** Swaps the last two axes. */
function swapLast(x: Node): Node {
  const n = x.shape.length;
  return transpose(
    x,
    x.shape.map((_, i) => i === n - 1 ? n - 2 : i === n - 2 ? n - 1 : i),
  );
}

/** Undoes a reduction over axes: repeats `x` along them, to the shape of `like`. */
function expandBack(x: Node, like: Node, axes: Shape): Node {
  const kept = reshape(x, like.shape.map((d, i) => axes.includes(i) ? 1 : d));
  return sameShape(kept.shape, like.shape)
    ? kept
    : bind("expand", [kept], { shape: like.shape });
}

/** Cotangents of `maximum` and `minimum`: all to the operand that is chosen, half to each of two equal ones. */
function shareAmongTies(ct: Node, y: Node, a: Node, b: Node): Node[] {
  const zero = fillLike(ct, 0);
  const share = select(eq(a, b), mul(ct, fillLike(ct, 0.5)), ct);
  return [select(eq(a, y), share, zero), select(eq(b, y), share, zero)];
}
