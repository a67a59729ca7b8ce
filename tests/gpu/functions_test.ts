import { assert, assertEquals } from "@std/assert";
import type { Backend } from "../../core/backend.ts";
import { type Data, type DType, dtypeOf } from "../../core/dtype.ts";
import type { Expr, ScalarOp } from "../../core/plan/kernel.ts";
import { ignore, openBackend } from "./adapter.ts";
import { convert, erf, scalar } from "./naive.ts";
import { call, fill, load, runKernel } from "./run.ts";

const inf = Infinity;

/** Evaluates an expression over buffers of one length, four points at a time and one at a time. */
async function evaluate(
  backend: Backend,
  expr: Expr,
  inputs: readonly Data[],
): Promise<Data> {
  const length = inputs[0]!.length;
  const out = inputs.length;
  const at = (size: number) => {
    const buffers = inputs.map((data) => data.slice(0, size));
    const result = expr.dtype === "f32"
      ? new Float32Array(size)
      : expr.dtype === "i32"
      ? new Int32Array(size)
      : expr.dtype === "u32"
      ? new Uint32Array(size)
      : new Uint8Array(size);
    return runKernel(backend, {
      kind: "map",
      shape: [size],
      outputs: [{ buffer: out, view: { offset: 0, strides: [1] }, expr }],
    }, [...buffers, result]);
  };
  assert(length % 4 === 0);
  const [[wide], [narrow]] = await Promise.all([at(length), at(length - 1)]);
  assertEquals(wide!.slice(0, -1), narrow!);
  return wide!;
}

function apply(
  backend: Backend,
  op: ScalarOp,
  inputs: readonly Data[],
  dtype: DType = "f32",
): Promise<Data> {
  const loads = inputs.map((data, i) => load(i, [1], dtypeOf(data)));
  return evaluate(backend, call(op, loads, dtype), inputs);
}

/** Distance in units of the last place of the exact value. */
function ulps(found: number, exact: number): number {
  if (Object.is(found, Math.fround(exact)) || found === exact) return 0;
  const size = Math.max(Math.abs(exact), 2 ** -126);
  return Math.abs(found - exact) / 2 ** (Math.floor(Math.log2(size)) - 23);
}

function sweep(from: number, to: number, count = 4096): Float32Array {
  return Float32Array.from(
    { length: count },
    (_, i) => from + (to - from) * i / (count - 1),
  );
}

/** Numbers of both signs from 1e-30 to `to`. */
function magnitudes(to: number, count = 2048): Float32Array {
  const positive = Array.from(
    { length: count / 2 },
    (_, i) => 1e-30 * (to / 1e-30) ** (i / (count / 2 - 1)),
  );
  return Float32Array.from([...positive, ...positive.map((x) => -x)]);
}

Deno.test({
  name: "elementary functions are right within a few units of the last place",
  ignore,
  fn: async (t) => {
    const backend = await openBackend();
    const cases: [ScalarOp, Float32Array, number][] = [
      ["exp", sweep(-87, 88.7), 2],
      ["exp", magnitudes(80), 2],
      ["expm1", sweep(-30, 88), 4],
      ["expm1", magnitudes(1), 4],
      ["log", magnitudes(3e38).map(Math.abs), 2],
      ["log", sweep(0.5, 2), 2],
      ["log1p", sweep(-0.9999, 3), 5],
      ["log1p", magnitudes(0.9), 5],
      ["tanh", sweep(-12, 12), 6],
      ["tanh", magnitudes(1), 6],
      ["erf", sweep(-5, 5), 3],
      ["erf", magnitudes(1), 3],
      ["sin", sweep(-7, 7), 2],
      ["cos", sweep(-7, 7), 2],
      ["sin", magnitudes(1), 2],
      ["sqrt", magnitudes(3e38).map(Math.abs), 2],
    ];
    for (const [op, x, most] of cases) {
      await t.step(`${op} from ${x[0]} to ${x.at(-1)}`, async () => {
        const found = await apply(backend, op, [x]);
        x.forEach((value, i) => {
          const exact = scalar(op, [value], "f32");
          const distance = ulps(found[i]!, exact);
          const near = distance <= most ||
            // Close to its zeros a sine is as good as π/2 is known.
            (/sin|cos/.test(op) && Math.abs(found[i]! - exact) < 1e-8);
          assert(
            near,
            `${op}(${value}) is ${exact}, not ${found[i]}: ${distance} ulp`,
          );
        });
      });
    }
    backend.dispose();
  },
});

Deno.test({
  name: "sine and cosine are right for large angles",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    for (const [end, most] of [[1e5, 2e-7], [2e6, 2e-7], [1e30, 2]] as const) {
      const x = sweep(-end, end);
      for (const op of ["sin", "cos"] as const) {
        const found = await apply(backend, op, [x]);
        x.forEach((value, i) => {
          const error = Math.abs(found[i]! - Math[op](value));
          assert(error <= most, `${op}(${value}) is off by ${error}`);
        });
      }
    }
    backend.dispose();
  },
});

Deno.test({
  name: "powers are right, of negative bases too",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const bases = [0.001, 0.5, 0.999, 1, 1.5, 2, 7, 100, -1, -1.5, -2, 0, -0];
    const exponents = [-4, -3, -1.5, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 5.5];
    const x: number[] = [];
    const y: number[] = [];
    for (const a of bases) for (const b of exponents) x.push(a), y.push(b);
    const [a, b] = [Float32Array.from(x), Float32Array.from(y)];
    const found = await apply(backend, "pow", [a, b]);
    for (const [i, base] of a.entries()) {
      const exact = base ** b[i]!;
      if (base === 0) {
        // The sign of an infinite or vanishing result may differ.
        assertEquals(Math.abs(found[i]!), Math.abs(exact));
      } else if (Number.isNaN(exact)) {
        assert(Number.isNaN(found[i]!), `${base} ** ${b[i]} is ${found[i]}`);
      } else {
        const error = Math.abs(found[i]! / exact - 1);
        assert(error < 3e-6, `${base} ** ${b[i]} is off by ${error}`);
      }
    }
    backend.dispose();
  },
});

Deno.test({
  name: "infinities and NaN go through functions as IEEE 754 has it",
  ignore,
  fn: async (t) => {
    const backend = await openBackend();
    const x = Float32Array.of(NaN, inf, -inf, 0, -0, 1, -1, 3e38);
    const unary: ScalarOp[] = [
      "neg",
      "abs",
      "sign",
      "floor",
      "exp",
      "expm1",
      "log",
      "log1p",
      "tanh",
      "erf",
    ];
    for (const op of unary) {
      await t.step(op, async () => {
        const found = await apply(backend, op, [x]);
        x.forEach((value, i) => {
          const exact = scalar(op, [value], "f32");
          const same = Number.isNaN(exact)
            ? Number.isNaN(found[i]!)
            : ulps(found[i]!, Math.fround(exact)) < 6;
          assert(same, `${op}(${value}) is ${exact}, not ${found[i]}`);
        });
      });
    }
    const special = [NaN, inf, -inf, 0, 1, -1, 2, -2];
    const a = Float32Array.from(special.flatMap((v) => special.map(() => v)));
    const b = Float32Array.from(special.flatMap(() => special));
    for (const op of ["maximum", "minimum", "add", "mul"] as const) {
      await t.step(op, async () => {
        const found = await apply(backend, op, [a, b]);
        assertEquals(
          [...found],
          [...a].map((v, i) => scalar(op, [v, b[i]!], "f32") + 0),
        );
      });
    }
    for (const op of ["eq", "lt"] as const) {
      await t.step(op, async () => {
        const found = await apply(backend, op, [a, b], "bool");
        assertEquals(
          [...found],
          [...a].map((v, i) => scalar(op, [v, b[i]!], "f32")),
        );
      });
    }
    await t.step("constants", async () => {
      for (const value of [NaN, inf, -inf, -0, 1e-40, 3.4e38]) {
        const expr: Expr = { kind: "const", value, dtype: "f32" };
        const found = await evaluate(backend, expr, [x]);
        assertEquals(found[0], Math.fround(value));
      }
    });
    backend.dispose();
  },
});

Deno.test({
  name: "functions of constants alone are computed on the device",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const most = 2 ** 31 - 1;
    const cases: [Expr, number][] = [
      [call("div", [fill(1), fill(0)]), inf],
      [call("div", [fill(0), fill(0)]), NaN],
      [call("mul", [fill(3e38), fill(-2)]), -inf],
      [call("sqrt", [fill(-1)]), NaN],
      [call("neg", [fill(-3)]), 3],
      [call("pow", [fill(0), fill(-1)]), inf],
      [call("add", [fill(most, "i32"), fill(1, "i32")], "i32"), -most - 1],
      [call("div", [fill(7, "u32"), fill(0, "u32")], "u32"), 0],
      [call("lt", [fill(-most - 1, "i32"), fill(0, "i32")], "bool"), 1],
    ];
    for (const [expr, exact] of cases) {
      const found = await evaluate(backend, expr, [new Float32Array(4)]);
      assertEquals(found[0], exact);
    }
    backend.dispose();
  },
});

Deno.test({
  name: "integers wrap, divide toward zero and give 0 for division by 0",
  ignore,
  fn: async (t) => {
    const backend = await openBackend();
    const values = [0, 1, -1, 2, -3, 7, -7, 2 ** 31 - 1, -(2 ** 31)];
    const a = Int32Array.from(values.flatMap((v) => values.map(() => v)));
    const b = Int32Array.from(values.flatMap(() => values));
    // A length that divides by 4.
    const pad = (data: Int32Array) => Int32Array.from([...data, 0, 0, 0]);
    const signed = [pad(a), pad(b)] as const;
    const unsigned = signed.map((data) => Uint32Array.from(data));
    for (
      const [inputs, dtype] of [[signed, "i32"], [unsigned, "u32"]] as const
    ) {
      for (const op of ["add", "sub", "mul", "div", "maximum"] as const) {
        await t.step(`${op} of ${dtype}`, async () => {
          const found = await apply(backend, op, inputs, dtype);
          inputs[0]!.forEach((v, i) => {
            const exact = scalar(op, [v, inputs[1]![i]!], dtype);
            assertEquals(found[i], exact, `${op}(${v}, ${inputs[1]![i]})`);
          });
        });
      }
      await t.step(`lt of ${dtype}`, async () => {
        const found = await apply(backend, "lt", inputs, "bool");
        assertEquals(
          [...found],
          [...inputs[0]!].map((v, i) => Number(v < inputs[1]![i]!)),
        );
      });
    }
    backend.dispose();
  },
});

Deno.test({
  name: "casts truncate, saturate and take NaN for 0",
  ignore,
  fn: async (t) => {
    const backend = await openBackend();
    const floats = Float32Array.of(
      ...[NaN, inf, -inf, 0, -0, 0.9, -0.9, 2.5, -2.5, 1e-40, 3e9, -3e9],
      ...[5e9, 2147483520, -2147483648, 4294967040],
    );
    const sources: Data[] = [
      floats,
      Int32Array.of(0, 1, -1, 2 ** 31 - 1),
      Uint32Array.of(0, 1, 2 ** 31, 2 ** 32 - 1),
      Uint8Array.of(0, 1, 1, 0),
    ];
    for (const data of sources) {
      const from = dtypeOf(data);
      for (const to of ["f32", "i32", "u32", "bool"] as const) {
        await t.step(`${from} to ${to}`, async () => {
          const arg = load(0, [1], from);
          const found = await evaluate(
            backend,
            { kind: "cast", arg, dtype: to },
            [data],
          );
          const exact = Array.from(data, (v) => convert(v, from, to));
          assertEquals([...found], exact);
        });
      }
    }
    backend.dispose();
  },
});

Deno.test({
  name: "random bits are those of threefry2x32 with 20 rounds",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    // Known answers of Random123: i is twice the first word of the counter, or one more.
    const key0 = Uint32Array.of(0, 0, 0x13198a2e, 0x13198a2e);
    const key1 = Uint32Array.of(0, 0, 0x03707344, 0x03707344);
    const at = 2 * 0x243f6a88;
    const i = Uint32Array.of(0, 1, at, at + 1);
    const stream = Uint32Array.of(0, 0, 0x85a308d3, 0x85a308d3);
    const found = await apply(
      backend,
      "threefry",
      [key0, key1, i, stream],
      "u32",
    );
    assertEquals(
      [...found],
      [0x6b200159, 0x99ba4efe, 0xc4923a9c, 0x483df7a0],
    );
    backend.dispose();
  },
});

Deno.test("the error function that others are compared with is right", () => {
  assertEquals(erf(0), 0);
  assert(Math.abs(erf(0.5) - 0.5204998778130465) < 1e-15);
  assert(Math.abs(erf(2) - 0.9953222650189527) < 1e-15);
  assert(Math.abs(erf(-3.5) + 0.9999992569016276) < 1e-15);
});
