/**
 * Random kernels of each kind, over buffers laid out in all ways that views allow.
 *
 * @module
 */

import fc from "fast-check";
import type { Data } from "../../core/dtype.ts";
import type { Expr, Kernel, View } from "../../core/plan/kernel.ts";
import { narrow } from "../../core/half.ts";
import { type Shape, sizeOf, stridesOf } from "../../core/shape.ts";
import { acc, call, fill, load, reduction, wave } from "./run.ts";

/** A kernel and its buffers. */
export type Sample = [kernel: Kernel, buffers: Data[]];

const size = fc.constantFrom(0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 33, 64);
const shape = fc.array(fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 12), {
  maxLength: 4,
});

/** Ways to lay out a tensor in a buffer: axes permuted, repeated, reversed, with a margin. */
export function layoutOf(
  shape: Shape,
): fc.Arbitrary<{ view: View; length: number }> {
  const axes = shape.map((_, i) => i);
  return fc.record({
    order: fc.shuffledSubarray(axes, { minLength: axes.length }),
    repeated: fc.option(fc.nat(Math.max(0, axes.length - 1)), { freq: 3 }),
    reversed: fc.option(fc.nat(Math.max(0, axes.length - 1)), { freq: 4 }),
    margin: fc.constantFrom(0, 0, 1, 4),
  }).map(({ order, repeated, reversed, margin }) => {
    const strides = new Array<number>(shape.length).fill(0);
    let length = 1;
    for (const axis of [...order].reverse()) {
      if (axis === repeated) continue;
      strides[axis] = length;
      length *= Math.max(1, shape[axis]!) + (margin === 4 ? 4 : 0);
    }
    let offset = margin;
    if (reversed !== null && axes.length > 0) {
      offset += strides[reversed]! * Math.max(0, shape[reversed]! - 1);
      strides[reversed]! *= -1;
    }
    return { view: { offset, strides }, length: length + margin };
  });
}

function contiguous(shape: Shape): View {
  return { offset: 0, strides: stridesOf(shape) };
}

/** A store to a whole buffer. */
export function output(buffer: number, shape: Shape, expr: Expr) {
  return { buffer, view: contiguous(shape), expr };
}

/** Maps with several outputs and dtypes. */
export const maps: fc.Arbitrary<Sample> = shape.chain((shape) =>
  fc.tuple(fc.constant(shape), layoutOf(shape), layoutOf(shape))
).map(([shape, a, b]): Sample => {
  const x: Expr = { kind: "load", buffer: 0, view: a.view, dtype: "f32" };
  const y: Expr = { kind: "load", buffer: 1, view: b.view, dtype: "f32" };
  const product = call("mul", [x, y]);
  const position: Expr = {
    kind: "index",
    view: { offset: -3, strides: shape.map((_, i) => 1 - i) },
    dtype: "i32",
  };
  const length = sizeOf(shape);
  return [{
    kind: "map",
    shape,
    outputs: [
      output(2, shape, call("sub", [product, y])),
      output(3, shape, call("add", [position, fill(2, "i32")], "i32")),
      output(4, shape, call("lt", [x, product], "bool")),
    ],
  }, [
    wave(a.length),
    wave(b.length, 2),
    new Float32Array(length),
    new Int32Array(length),
    new Uint8Array(length),
  ]];
});

/** Sums and largest elements of products, over any axes. */
export const reductions: fc.Arbitrary<Sample> = fc.tuple(shape, shape).filter((
  [shape, over],
) => sizeOf(shape) * sizeOf(over) < 1e5).chain(([shape, over]) =>
  fc.tuple(
    fc.constant(shape),
    fc.constant(over),
    layoutOf([...shape, ...over]),
    layoutOf([...shape, ...over]),
    fc.constantFrom("sum" as const, "max" as const),
  )
).map(([shape, over, a, b, combine]): Sample => [
  reduction(
    shape,
    over,
    combine,
    call("mul", [
      { kind: "load", buffer: 0, view: a.view, dtype: "f32" },
      { kind: "load", buffer: 1, view: b.view, dtype: "f32" },
    ]),
    [
      output(2, shape, call("mul", [acc, fill(0.5)])),
      output(3, shape, call("add", [acc, load(3, stridesOf(shape))])),
    ],
  ),
  [
    wave(a.length),
    wave(b.length, 3),
    new Float32Array(sizeOf(shape)),
    wave(sizeOf(shape), 5),
  ],
]);

/** Maps from and to halves, in whatever order they lie. */
export const halves: fc.Arbitrary<Sample> = shape.chain((shape) =>
  fc.tuple(fc.constant(shape), layoutOf(shape), layoutOf(shape), fc.nat(3))
).map(([shape, a, b, row]): Sample => {
  const cast = (arg: Expr, dtype: "f32" | "bf16"): Expr => {
    return { kind: "cast", arg, dtype };
  };
  const x: Expr = { kind: "load", buffer: 0, view: a.view, dtype: "bf16" };
  const y: Expr = { kind: "load", buffer: 1, view: b.view, dtype: "f32" };
  // Reversed, each invocation stores halves of words that others share.
  const backwards = stridesOf(shape).map((s) => -s);
  const last = Math.max(0, sizeOf(shape) - 1) + row;
  return [{
    kind: "map",
    shape,
    outputs: [
      output(2, shape, call("add", [cast(x, "f32"), y])),
      output(3, shape, cast(y, "bf16")),
      {
        buffer: 4,
        view: { offset: last, strides: backwards },
        expr: x,
      },
    ],
  }, [
    narrow(wave(a.length), "bf16"),
    wave(b.length, 2),
    new Float32Array(sizeOf(shape)),
    new Uint16Array(sizeOf(shape)),
    new Uint16Array(sizeOf(shape) + 3).fill(0xa5a5),
  ]];
});

/** Matrices of a batch side by side, as attention stores its heads. */
function sideBySide(shape: Shape): View {
  const [m, n] = shape.slice(-2) as [number, number];
  const strides = stridesOf([m, ...shape.slice(0, -2), n]);
  return { offset: 0, strides: [...strides.slice(1, -1), strides[0]!, 1] };
}

/** Matrix products with a scale and a bias, and negated side by side. */
export const products: fc.Arbitrary<Sample> = fc.tuple(
  fc.array(fc.constantFrom(1, 2, 3), { maxLength: 2 }),
  size,
  size,
  size,
).chain(([batch, m, n, k]) =>
  fc.tuple(
    fc.constant([...batch, m, n]),
    fc.constant(k),
    layoutOf([...batch, m, k]),
    layoutOf([...batch, k, n]),
    layoutOf([...batch, m, n]),
    fc.nat(3),
  )
).map(([shape, k, a, b, bias, halves]): Sample => [{
  kind: "matmul",
  shape,
  k,
  a: { buffer: 0, view: a.view, dtype: halves & 1 ? "bf16" : "f32" },
  b: { buffer: 1, view: b.view, dtype: halves & 2 ? "bf16" : "f32" },
  outputs: [
    output(
      3,
      shape,
      call("add", [
        { kind: "load", buffer: 2, view: bias.view, dtype: "f32" },
        call("mul", [acc, fill(2)]),
      ]),
    ),
    { buffer: 4, view: sideBySide(shape), expr: call("neg", [acc]) },
  ],
}, [
  halves & 1 ? narrow(wave(a.length), "bf16") : wave(a.length),
  halves & 2 ? narrow(wave(b.length, 3), "bf16") : wave(b.length, 3),
  wave(bias.length, 7),
  new Float32Array(sizeOf(shape)),
  new Float32Array(sizeOf(shape)),
]]);

/** Scattered additions to rows, with indices that may lie outside. */
export const scatters: fc.Arbitrary<Sample> = fc.tuple(
  size,
  size,
  fc.integer({ min: 1, max: 9 }),
).map(
  ([rows, columns, size]): Sample => [{
    kind: "scatter",
    shape: [rows, columns],
    axis: 0,
    buffer: 0,
    view: { offset: 0, strides: [0, 1] },
    stride: columns,
    size,
    index: load(1, [1, 0], "i32"),
    source: load(2, [columns, 1]),
  }, [
    wave(size * columns),
    Int32Array.from({ length: rows }, (_, i) => i * 7 % 11 - 1),
    wave(rows * columns),
  ]],
);

/** Rows picked by computed indices, which may lie outside. */
export const gathers: fc.Arbitrary<Sample> = fc.tuple(
  size,
  size,
  fc.integer({ min: 1, max: 9 }),
).map(([rows, columns, size]): Sample => {
  const index = call("sub", [load(1, [1, 0], "i32"), fill(2, "i32")], "i32");
  const picked: Expr = {
    kind: "gather",
    buffer: 0,
    view: { offset: 0, strides: [0, 1] },
    index,
    stride: columns,
    size,
    dtype: "f32",
  };
  return [{
    kind: "map",
    shape: [rows, columns],
    outputs: [
      output(2, [rows, columns], call("mul", [picked, fill(3)])),
    ],
  }, [
    wave(size * columns),
    Int32Array.from({ length: Math.max(1, rows) }, (_, i) => i * 5 % 13),
    new Float32Array(rows * columns),
  ]];
});
