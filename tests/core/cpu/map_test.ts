import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DType } from "../../../core/dtype.ts";
import { isHalf, rounded } from "../../../core/half.ts";
import type { Expr } from "../../../core/plan/kernel.ts";
import { sizeOf, stridesOf } from "../../../core/shape.ts";
import { check } from "../../support/runs.ts";
import {
  assertClose,
  backends,
  type Buffer,
  call,
  constant,
  load,
  noise,
  points,
  runKernel,
  simulate,
  viewOf,
  whole,
} from "./support.ts";

const sizes = fc.constantFrom(0, 1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 64);

/** Shapes of at most 2000 points. */
const shapes = fc.array(sizes, { maxLength: 5 })
  .filter((shape) => sizeOf(shape.map((d) => d || 1)) <= 2000);

/** For each axis: whether a load repeats, goes straight or backwards, and how far apart its elements are. */
const steps = fc.array(fc.constantFrom(0, 1, 1, 1, 2, -1), {
  minLength: 5,
  maxLength: 5,
});

const orders = fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 5 });
const views = fc.record({ order: orders, step: steps });

function values(count: number, dtype: DType, seed: number): Buffer {
  const data = noise(count, seed).map((x) =>
    dtype === "f32"
      ? x * 4
      : isHalf(dtype)
      ? rounded(x * 4, dtype)
      : dtype === "bool"
      ? Number(x > 0)
      : dtype === "u32"
      ? Math.round((x + 1) * 20)
      : Math.round(x * 20)
  );
  return { dtype, data };
}

/** Expressions of two halves. */
const halves: ((a: Expr, b: Expr) => Expr)[] = [
  (a) => a,
  (a) => cast(a, a.dtype === "f16" ? "bf16" : "f16"),
  (a, b) => cast(call("mul", [cast(a, "f32"), cast(b, "f32")]), a.dtype),
  (a, b) => call("add", [cast(a, "f32"), cast(b, "f32")]),
];

/** Expressions of two loads, by the dtype of the loads. */
const expressions: Record<DType, ((a: Expr, b: Expr) => Expr)[]> = {
  f32: [
    (a, b) => call("add", [a, b]),
    (a, b) => call("mul", [call("sub", [a, b]), call("div", [a, constant(3)])]),
    (a, b) => call("select", [call("lt", [a, b], "bool"), a, b]),
    (a, b) => call("maximum", [call("minimum", [a, b]), constant(0)]),
    (a) => call("mul", [a, call("tanh", [call("exp", [a])])]),
    (a, b) => cast(call("lt", [a, b], "bool"), "f32"),
    (a, b) =>
      call("add", [cast(cast(a, "i32"), "f32"), cast(cast(b, "u32"), "f32")]),
    (a, b) =>
      cast(
        call("and", [
          cast(a, "bool"),
          call("not", [call("eq", [a, b], "bool")]),
        ]),
        "i32",
      ),
  ],
  f16: halves,
  bf16: halves,
  i32: [
    (a, b) => call("div", [a, b]),
    (a, b) =>
      call("pow", [a, call("abs", [call("div", [b, constant(9, "i32")])])]),
    (a, b) => call("mul", [call("abs", [call("neg", [a])]), call("sign", [b])]),
    (a, b) => call("maximum", [call("sub", [a, b]), call("minimum", [a, b])]),
    (a) => cast(a, "f32"),
  ],
  u32: [
    (a, b) => call("div", [a, b]),
    (a, b) => cast(call("lt", [call("sub", [a, b]), b], "bool"), "u32"),
    (a, b) => cast(call("add", [a, b]), "f32"),
  ],
  bool: [
    (a, b) => call("or", [a, call("not", [b])]),
    (a, b) => call("lt", [a, b], "bool"),
    (a, b) => call("select", [a, b, call("eq", [a, b], "bool")]),
    (a, b) => call("add", [cast(a, "i32"), cast(b, "i32")]),
  ],
};

function cast(arg: Expr, dtype: DType): Expr {
  return { kind: "cast", arg, dtype };
}

for (const [name, backend] of Object.entries(backends)) {
  for (const dtype of ["f32", "f16", "bf16", "i32", "u32", "bool"] as const) {
    Deno.test(`maps of ${dtype} through any views equal loops, ${name}`, async () => {
      const property = fc.asyncProperty(
        shapes,
        fc.tuple(views, views, orders),
        fc.nat(7),
        async (shape, [viewA, viewB, order], which) => {
          const a = viewOf(shape, viewA.order, viewA.step);
          const b = viewOf(shape, viewB.order, viewB.step);
          const out = viewOf(shape, order, [1, 1, 1, 1, 1]);
          const choices = expressions[dtype];
          const expr = choices[which % choices.length]!(
            load(0, a.view, dtype),
            load(1, b.view, dtype),
          );
          const buffers = [
            values(a.size, dtype, 1),
            values(b.size, dtype, 2),
            values(out.size, expr.dtype, 3),
          ];
          const outputs = [{ buffer: 2, view: out.view, expr }];
          const kernel = { kind: "map", shape, outputs } as const;
          const actual = await runKernel(backend, kernel, buffers);
          const expected = simulate(kernel, buffers);
          if (expr.dtype !== "f32") assertEquals(actual, expected);
          actual.forEach((x, i) => assertClose(x, expected[i]!, 3e-6, 0.1));
        },
      );
      await check(property, 60);
    });
  }

  Deno.test(`positions and picked elements follow the indices, ${name}`, async () => {
    const property = fc.asyncProperty(
      shapes,
      fc.tuple(views, views, steps),
      fc.integer({ min: 1, max: 9 }),
      async (shape, [viewX, viewI, stepAt], size) => {
        const x = viewOf(shape, viewX.order, viewX.step);
        const index = viewOf(shape, viewI.order, viewI.step);
        const at = shape.map((_, i) => stepAt[i]! * (i + 1));
        const gather: Expr = {
          kind: "gather",
          buffer: 0,
          view: x.view,
          index: load(1, index.view, "i32"),
          stride: x.size,
          size,
          dtype: "f32",
        };
        const position: Expr = {
          kind: "index",
          view: { offset: 5, strides: at },
          dtype: "i32",
        };
        const buffers = [
          values(x.size * size, "f32", 4),
          values(index.size, "i32", 5),
          values(sizeOf(shape), "f32", 6),
          values(sizeOf(shape), "i32", 6),
        ];
        const kernel = {
          kind: "map",
          shape,
          outputs: [
            { buffer: 2, view: whole(shape), expr: gather },
            { buffer: 3, view: whole(shape), expr: position },
          ],
        } as const;
        assertEquals(
          await runKernel(backend, kernel, buffers),
          simulate(kernel, buffers),
        );
      },
    );
    await check(property, 60);
  });

  Deno.test(`outputs in place see each other's old values, ${name}`, async () => {
    for (const size of [1, 3, 8, 29, 64]) {
      const view = whole([size]);
      const [a, b] = [load(0, view), load(1, view)];
      const buffers = [values(size, "f32", 7), values(size, "f32", 8)];
      const kernel = {
        kind: "map",
        shape: [size],
        outputs: [
          { buffer: 0, view, expr: call("add", [a, b]) },
          { buffer: 1, view, expr: call("sub", [a, b]) },
        ],
      } as const;
      const [sum, difference] = await runKernel(backend, kernel, buffers);
      const expected = simulate(kernel, buffers);
      assertClose(sum!, expected[0]!, 1e-6, 1);
      assertClose(difference!, expected[1]!, 1e-6, 1);
    }
  });

  Deno.test(`large transposes go in blocks and lose nothing, ${name}`, async () => {
    for (const [rows, columns] of [[70, 128], [64, 96], [17, 400]] as const) {
      const shape = [rows, columns];
      const view = { offset: 0, strides: [1, rows] };
      const buffers = [
        values(rows * columns, "f32", 9),
        values(rows * columns, "f32", 1),
      ];
      const outputs = [{ buffer: 1, view: whole(shape), expr: load(0, view) }];
      const kernel = { kind: "map", shape, outputs } as const;
      assertEquals(
        await runKernel(backend, kernel, buffers),
        simulate(kernel, buffers),
      );
    }
  });

  Deno.test(`maximum, minimum, sign and comparisons treat NaN by the rules, ${name}`, async () => {
    const pairs = [[NaN, 1], [1, NaN], [NaN, NaN], [0, -0], [-1, 0], [2, 1]];
    const view = whole([pairs.length]);
    const [a, b] = [load(0, view), load(1, view)];
    const exprs = [
      call("maximum", [a, b]),
      call("minimum", [a, b]),
      call("maximum", [a, constant(0)]),
      call("sign", [a]),
      cast(call("lt", [a, b], "bool"), "f32"),
      cast(call("eq", [a, b], "bool"), "f32"),
    ];
    const data = noise(pairs.length);
    const results = await runKernel(
      backend,
      {
        kind: "map",
        shape: [pairs.length],
        outputs: exprs.map((expr, i) => ({ buffer: i + 2, view, expr })),
      },
      [
        pairs.map((p) => p[0]!),
        pairs.map((p) => p[1]!),
        ...exprs.map(() => data),
      ]
        .map((data) => ({ dtype: "f32", data })),
    );
    assertEquals(results.slice(2), [
      [NaN, NaN, NaN, 0, 0, 2],
      [NaN, NaN, NaN, -0, -1, 1],
      [NaN, 1, NaN, 0, 0, 2],
      [NaN, 1, NaN, 0, -1, 1],
      [0, 0, 0, 0, 1, 0],
      [0, 0, 0, 1, 0, 0],
    ]);
  });

  Deno.test(`casts saturate and division of integers never traps, ${name}`, async () => {
    const floats = [NaN, 3e9, -3e9, 1.9, -1.9, 5e9];
    const [top, bottom] = [[7, -7, -(2 ** 31), 5, 0, 1], [2, 2, -1, 0, 0, -1]];
    const view = whole([6]);
    const x = load(0, view);
    const [a, b] = [load(1, view, "i32"), load(2, view, "i32")];
    const exprs = [
      cast(x, "i32"),
      cast(x, "u32"),
      cast(x, "bool"),
      call("div", [a, b]),
    ];
    const results = await runKernel(backend, {
      kind: "map",
      shape: [6],
      outputs: exprs.map((expr, i) => ({ buffer: i + 3, view, expr })),
    }, [
      { dtype: "f32", data: floats },
      { dtype: "i32", data: top },
      { dtype: "i32", data: bottom },
      ...exprs.map(({ dtype }) => ({ dtype, data: noise(6) })),
    ]);
    const [low, high] = [-(2 ** 31), 2 ** 31 - 1];
    assertEquals(results.slice(3), [
      [0, high, low, 1, -1, high],
      [0, 3e9, 0, 1, 0, 2 ** 32 - 1],
      [1, 1, 1, 1, 1, 1],
      [3, -3, low, 0, 0, -1],
    ]);
  });
}

Deno.test("the naive loops visit every point once", () => {
  assertEquals(points([2, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]]);
  assertEquals(points([]), [[]]);
  assertEquals(stridesOf([2, 3]), [3, 1]);
});
