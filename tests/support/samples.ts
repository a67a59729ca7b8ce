/**
 * Sample inputs and parameters of each primitive; a primitive without them does not compile.
 *
 * Inputs keep clear of kinks and poles, so that every sample can be differentiated.
 *
 * @module
 */

import fc from "fast-check";
import type { DType, Shape } from "cotan";
import { recompute } from "../../core/checkpoint.ts";
import type { Graph, Node, None, OpName, Params } from "../../core/node.ts";
import { bind, fill as fillNode, input } from "../../core/ops.ts";
import { pullBack } from "../../core/scan.ts";
import type { Type } from "../../core/shape.ts";
import {
  awayFromZero,
  between,
  distinct,
  type Element,
  elements,
  fill,
  seeds,
  shapes,
  sizeOf,
  sizes,
  type Value,
} from "./values.ts";

/** One use of a primitive with parameters P. */
export interface Sample<P = unknown> {
  readonly inputs: readonly Value[];
  readonly params: P;
  /** Type of the result, found in another way than by the op table. */
  readonly type: Type;
  /** Number of terms that an element of the result is a sum of. */
  readonly terms?: number;
}

/** Samples of any primitive without parameters. */
type Plain = fc.Arbitrary<Sample<None>>;

const dtypes = fc.constantFrom<DType>(
  "f32",
  "f16",
  "bf16",
  "i32",
  "u32",
  "bool",
);
/** Those that are computed with. */
const wide = fc.constantFrom<DType>("f32", "i32", "u32", "bool");
const numbers = fc.constantFrom<DType>("f32", "i32", "u32");
const float = fc.constant<DType>("f32");
const signed = fc.constantFrom<DType>("f32", "i32");
const bool = fc.constant<DType>("bool");

/** Operands of one dtype: the element rules are those of f32, other dtypes have one each. */
function elementwise(
  dtype: fc.Arbitrary<DType>,
  ...operands: Element[]
): Plain {
  return fc.tuple(shapes(), dtype, seeds).map(([shape, dtype, seed]) => ({
    inputs: operands.map((element, i) =>
      fill(shape, dtype, seed + i, dtype === "f32" ? element : elements[dtype])
    ),
    params: {},
    type: { shape, dtype },
  }));
}

/** Two operands, equal or well apart; where `ties`, a third of the elements are equal. */
function pairs(dtype: fc.Arbitrary<DType>, ties: boolean): Plain {
  return elementwise(dtype, elements.f32, awayFromZero(0.2, 2)).map(
    (sample) => {
      const [a, b] = sample.inputs as [Value, Value];
      const data = a.data.map((x, i) => {
        if (ties && i % 3 === 0) return x;
        return a.dtype === "f32" ? Math.fround(x + b.data[i]!) : b.data[i]!;
      });
      return { ...sample, inputs: [a, { ...b, data }] };
    },
  );
}

/** The same with a result of bools. */
function compared(samples: Plain): Plain {
  return samples.map((sample) => ({
    ...sample,
    type: { ...sample.type, dtype: "bool" },
  }));
}

/** A shape, some of its axes, and a seed. */
const someAxes = fc.tuple(
  shapes(1),
  fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
  seeds,
)
  .map(([shape, chosen, seed]) => ({
    shape,
    axes: shape.flatMap((_, i) => chosen[i] ? [i] : []),
    seed,
  }));

/** For each axis of a shape of 1 to 3 axes a few small numbers. */
const perAxis = fc.array(
  fc.record({
    size: sizes,
    step: fc.integer({ min: 1, max: 3 }),
    low: fc.integer({ min: 0, max: 2 }),
    high: fc.integer({ min: 0, max: 2 }),
  }),
  { minLength: 1, maxLength: 3 },
).filter((axes) =>
  sizeOf(axes.map(({ size, step }) => size * step + 4)) < 3000
);

/** An operand, an index along an axis, and what the index's shape is. */
function indexed(dtypes: fc.Arbitrary<DType>) {
  return fc.tuple(shapes(1, 3), fc.nat(), sizes, dtypes, seeds)
    .map(([other, at, count, dtype, seed]) => {
      const axis = at % other.length;
      const size = Math.max(1, other[axis]!);
      const withAxis = (d: number): Shape =>
        other.map((s, i) => i === axis ? d : s);
      // A few indices are outside: they are taken as the nearest inside.
      const index = fill(
        withAxis(count),
        "i32",
        seed,
        (u) => Math.floor(u * (size + 2)) - 1,
      );
      return { axis, dtype, seed, index, shape: withAxis(size), count };
    });
}

/** Samples of each primitive. */
export const samples: {
  readonly [K in OpName]: fc.Arbitrary<Sample<Params[K]>>;
} = {
  input: elementwise(dtypes, elements.f32),
  fill: fc.tuple(shapes(), dtypes, seeds).map(([shape, dtype, seed]) => ({
    inputs: [],
    params: { shape, dtype, value: fill([1], dtype, seed).data[0]! },
    type: { shape, dtype },
  })),
  iota: fc.tuple(shapes(1), numbers, fc.nat()).map(([shape, dtype, at]) => ({
    inputs: [],
    params: { shape, dtype, axis: at % shape.length },
    type: { shape, dtype },
  })),

  neg: elementwise(signed, elements.f32),
  abs: elementwise(signed, awayFromZero(0.1, 3)),
  sign: elementwise(signed, awayFromZero(0.1, 3)),
  floor: elementwise(
    float,
    (u) => Math.floor(u * 7) - 3 + 0.1 + 0.8 * (u * 7 % 1),
  ),
  sqrt: elementwise(float, between(0.1, 4)),
  exp: elementwise(float, elements.f32),
  expm1: elementwise(float, between(-2, 2)),
  log: elementwise(float, between(0.1, 4)),
  log1p: elementwise(float, between(-0.8, 3)),
  sin: elementwise(float, between(-7, 7)),
  cos: elementwise(float, between(-7, 7)),
  tanh: elementwise(float, elements.f32),
  erf: elementwise(float, elements.f32),
  not: elementwise(bool, elements.f32),
  cast: fc.tuple(shapes(), dtypes, dtypes, seeds)
    .map(([shape, from, to, seed]) => ({
      inputs: [
        fill(shape, from, seed, from === "f32" ? between(-99, 99) : undefined),
      ],
      params: { dtype: to },
      type: { shape, dtype: to },
    })),
  alias: elementwise(dtypes, elements.f32),
  stopGradient: elementwise(dtypes, elements.f32),

  add: elementwise(numbers, elements.f32, elements.f32),
  sub: elementwise(numbers, elements.f32, elements.f32),
  mul: elementwise(numbers, elements.f32, elements.f32),
  div: elementwise(numbers, elements.f32, awayFromZero(0.3, 3)),
  pow: elementwise(float, between(0.2, 3), between(-2, 3)),
  maximum: pairs(numbers, false),
  minimum: pairs(numbers, false),
  eq: compared(pairs(wide, true)),
  lt: compared(pairs(wide, true)),
  and: elementwise(bool, elements.f32, elements.f32),
  or: elementwise(bool, elements.f32, elements.f32),
  select: elementwise(wide, elements.f32, elements.f32).chain((sample) =>
    seeds.map((seed) => ({
      ...sample,
      inputs: [fill(sample.type.shape, "bool", seed), ...sample.inputs],
    }))
  ),

  sum: fc.tuple(someAxes, numbers).map(([{ shape, axes, seed }, dtype]) => ({
    inputs: [fill(shape, dtype, seed)],
    params: { axes },
    type: { shape: without(shape, axes), dtype },
    terms: sizeOf(axes.map((i) => shape[i]!)),
  })),
  // The largest of nothing is no number of i32: the surface functions do not ask for it.
  max: fc.tuple(someAxes, numbers).map(([{ shape, axes, seed }, dtype]) => {
    const full = shape.map((d, i) => axes.includes(i) ? Math.max(1, d) : d);
    return {
      inputs: [
        dtype === "f32" ? distinct(full, seed) : fill(full, dtype, seed),
      ],
      params: { axes },
      type: { shape: without(full, axes), dtype },
    };
  }),

  // The factors of the size, gathered into axes in two ways.
  reshape: fc.tuple(
    fc.array(sizes, { maxLength: 4 }),
    fc.nat(),
    fc.nat(),
    dtypes,
    seeds,
  )
    .map(([factors, a, b, dtype, seed]) => {
      const [from, to] = [a, b].map((cuts) => gather(factors, cuts)) as [
        number[],
        number[],
      ];
      return {
        inputs: [fill(from, dtype, seed)],
        params: { shape: to },
        type: { shape: to, dtype },
      };
    }),
  transpose: shapes().chain((shape) =>
    fc.tuple(permutations(shape.length), dtypes, seeds).map(
      ([perm, dtype, seed]) => {
        const from = [...shape];
        perm.forEach((axis, i) => from[axis] = shape[i]!);
        return {
          inputs: [fill(from, dtype, seed)],
          params: { perm },
          type: { shape, dtype },
        };
      },
    )
  ),
  expand: fc.tuple(someAxes, dtypes).map(([{ shape, axes, seed }, dtype]) => ({
    inputs: [fill(shape.map((d, i) => axes.includes(i) ? 1 : d), dtype, seed)],
    params: { shape },
    type: { shape, dtype },
  })),
  slice: fc.tuple(perAxis, dtypes, seeds).map(([axes, dtype, seed]) => {
    const size = axes.map((a) => a.size), step = axes.map((a) => a.step);
    const start = axes.map((a) => a.low);
    const from = axes.map((a) =>
      a.low + a.high + (a.size === 0 ? 0 : (a.size - 1) * a.step + 1)
    );
    return {
      inputs: [fill(from, dtype, seed)],
      params: { start, size, step },
      type: { shape: size, dtype },
    };
  }),
  pad: fc.tuple(perAxis, dtypes, fc.boolean(), seeds).map((
    [axes, dtype, isZero, seed],
  ) => ({
    inputs: [fill(axes.map((a) => a.size), dtype, seed)],
    params: {
      low: axes.map((a) => a.low),
      high: axes.map((a) => a.high),
      interior: axes.map((a) => a.step - 1),
      value: isZero ? 0 : dtype === "bool" ? 1 : 2,
    },
    type: {
      // Each element brings its gap but the last.
      shape: axes.map((a) =>
        a.low + a.size * a.step - (a.size === 0 ? 0 : a.step - 1) + a.high
      ),
      dtype,
    },
  })),
  flip: fc.tuple(someAxes, dtypes).map(([{ shape, axes, seed }, dtype]) => ({
    inputs: [fill(shape, dtype, seed)],
    params: { axes },
    type: { shape, dtype },
  })),
  concat: fc.tuple(
    shapes(1, 3),
    fc.nat(),
    fc.array(sizes, { minLength: 1, maxLength: 3 }),
    dtypes,
    seeds,
  )
    .map(([shape, at, parts, dtype, seed]) => {
      const axis = at % shape.length;
      const along = (d: number): Shape =>
        shape.map((s, i) => i === axis ? d : s);
      return {
        inputs: parts.map((d, i) => fill(along(d), dtype, seed + i)),
        params: { axis },
        type: { shape: along(parts.reduce((a, b) => a + b)), dtype },
      };
    }),

  gather: indexed(dtypes).map(({ axis, dtype, seed, index, shape }) => ({
    inputs: [fill(shape, dtype, seed), index],
    params: { axis },
    type: { shape: index.shape, dtype },
  })),
  scatterAdd: indexed(numbers).map((
    { axis, dtype, seed, index, shape, count },
  ) => ({
    inputs: [
      fill(shape, dtype, seed),
      index,
      fill(index.shape, dtype, seed + 1),
    ],
    params: { axis },
    type: { shape, dtype },
    terms: 1 + count,
  })),
  unpack: fc.tuple(shapes(1, 3), fc.boolean(), seeds)
    .filter(([shape]) => sizeOf(shape) <= 100)
    .map(([shape, isLevelled, seed]) => ({
      inputs: [fill(shape, "u32", seed, (u) => Math.floor(u * 2 ** 32))],
      params: {
        levels: isLevelled
          ? Array.from({ length: 16 }, (_, i) => Math.fround((i - 5) / 3))
          : null,
      },
      type: {
        shape: shape.with(-1, shape.at(-1)! * (isLevelled ? 8 : 4)),
        dtype: "f32",
      },
    })),
  random: fc.tuple(shapes(0, 2), shapes(0, 3), seeds)
    .filter(([batch, shape]) => sizeOf(batch) * sizeOf(shape) <= 600)
    .map(([batch, shape, seed]) => {
      const word: Element = (u) => Math.floor(u * 2 ** 32);
      return {
        inputs: [
          fill([...batch, 2], "u32", seed, word),
          fill(batch, "u32", seed + 1, word),
        ],
        params: { shape },
        type: { shape: [...batch, ...shape], dtype: "u32" },
      };
    }),

  matmul: fc.tuple(shapes(0, 2), sizes, sizes, sizes, seeds)
    .filter(([batch, m, k, n]) =>
      sizeOf(batch) * Math.max(m * k, k * n, m * n) < 3000
    )
    .map(([batch, m, k, n, seed]) => ({
      inputs: [
        fill([...batch, m, k], "f32", seed),
        fill([...batch, k, n], "f32", seed + 1),
      ],
      params: {},
      type: { shape: [...batch, m, n], dtype: "f32" },
      terms: 9 * k,
    })),

  // Small fixed graphs whose first part is a scalar f32, as what stands for the type of a tuple.
  call: fc.tuple(sizes, seeds).map(([size, seed]) => {
    const inputs = [fill([size], "f32", seed), fill([], "f32", seed + 1)];
    const body = callBody(inputs);
    return {
      inputs,
      params: { body, pullback: recompute(body) },
      type: scalar,
      terms: size,
    };
  }),
  scan: fc.tuple(sizes, sizes, fc.boolean(), seeds)
    .map(([length, size, reverse, seed]) => {
      const inputs = [
        fill([], "f32", seed),
        fill([length, size], "f32", seed + 1),
        // The result is about this to the power of `length`: near 0 a finite difference says little of it.
        fill([], "f32", seed + 2, awayFromZero(0.5, 3)),
      ];
      const body = callBody([fill([size], "f32", 0), scalar, scalar]);
      const [x, carry, constant] = body.inputs as [Node, Node, Node];
      return {
        inputs,
        params: {
          body: { ...body, inputs: [carry, x, constant] },
          pullback: pullBack,
          carries: 1,
          xs: 1,
          length,
          axis: 0,
          reverse,
        },
        type: scalar,
        terms: 9 + length * size,
      };
    }),
  part: fc.tuple(shapes(), dtypes, shapes(), seeds)
    .map(([shape, dtype, other, seed]) => ({
      inputs: [fill(other, "f32", seed), fill(shape, dtype, seed)],
      params: { index: 1, shape, dtype },
      type: { shape, dtype },
    })),
  after: fc.tuple(shapes(), dtypes, shapes(), seeds)
    .map(([shape, dtype, other, seed]) => ({
      inputs: [fill(shape, dtype, seed), fill(other, "f32", seed)],
      params: {},
      type: { shape, dtype },
    })),
};

const scalar: Type = { shape: [], dtype: "f32" };

/** Of operands x, y, …: sin(mean x · y · … / 9), where only x is no scalar; it keeps small errors small. */
function callBody(types: readonly Type[]): Graph {
  const inputs = types.map(input);
  const [x, ...factors] = inputs as [Node, ...Node[]];
  const sum = bind("sum", [x], { axes: [0] });
  const share = fillNode(scalar, 1 / Math.max(1, 9 * sizeOf(x.shape)));
  const product = [share, ...factors]
    .reduce((a, b) => bind("mul", [a, b], {}), sum);
  return { inputs, outputs: [bind("sin", [product], {})] };
}

function without(shape: Shape, axes: Shape): number[] {
  return shape.filter((_, i) => !axes.includes(i));
}

/** Axes from factors: neighbours are multiplied where a bit of `cuts` is 0; axes of size 1 come where one is 1. */
function gather(factors: readonly number[], cuts: number): number[] {
  const shape: number[] = [];
  factors.forEach((factor, i) => {
    if (i > 0 && (cuts >> i & 1) === 0) shape.push(shape.pop()! * factor);
    else shape.push(factor);
    if ((cuts >> (i + 8) & 3) === 3) shape.push(1);
  });
  return shape;
}

function permutations(rank: number): fc.Arbitrary<number[]> {
  const axes = Array.from({ length: rank }, (_, i) => i);
  return fc.shuffledSubarray(axes, { minLength: rank, maxLength: rank });
}
