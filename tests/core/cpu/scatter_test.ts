import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { ScatterKernel } from "../../../core/plan/kernel.ts";
import { sizeOf, stridesOf } from "../../../core/shape.ts";
import { check } from "../../support/runs.ts";
import {
  backends,
  call,
  load,
  noise,
  runKernel,
  simulate,
  whole,
} from "./support.ts";

const sizes = fc.constantFrom(0, 1, 2, 3, 5, 8, 13, 64);
const cases = fc.record({
  shape: fc.array(sizes, { minLength: 1, maxLength: 3 }),
  axis: fc.nat(2),
  size: fc.constantFrom(1, 2, 7),
  isUniform: fc.boolean(),
  dtype: fc.constantFrom("f32", "i32", "u32"),
});

for (const [name, backend] of Object.entries(backends)) {
  Deno.test(`scatters along any axis equal loops, ${name}`, async () => {
    const property = fc.asyncProperty(
      cases,
      async ({ shape, axis, size, isUniform, dtype }) => {
        const at = axis % shape.length;
        const target = shape.map((d, i) => i === at ? size : d);
        const strides = stridesOf(target);
        const positions = shape.map((_, i) => i === at ? 1 : 0);
        const kernel: ScatterKernel = {
          kind: "scatter",
          shape,
          axis: at,
          buffer: 0,
          view: { offset: 0, strides: strides.map((s, i) => i === at ? 0 : s) },
          stride: strides[at]!,
          size,
          index: load(
            1,
            isUniform ? { offset: 0, strides: positions } : whole(shape),
            "i32",
          ),
          source: call("add", [
            load(2, whole(shape), dtype),
            load(2, whole(shape), dtype),
          ]),
        };
        const ints = (count: number, seed: number) =>
          noise(count, seed).map((x) => Math.round(x * 9));
        const counts = dtype === "u32"
          ? (x: number) => Math.abs(x)
          : (x: number) => x;
        const buffers = [
          { dtype, data: ints(sizeOf(target), 1).map(counts) },
          {
            dtype: "i32" as const,
            data: ints(Math.max(sizeOf(shape), shape[at]!), 2),
          },
          { dtype, data: ints(sizeOf(shape), 3).map(counts) },
        ];
        assertEquals(
          await runKernel(backend, kernel, buffers),
          simulate(kernel, buffers),
        );
      },
    );
    await check(property, 150);
  });

  Deno.test(`points that meet along an axis whose index never changes all count, ${name}`, async () => {
    const kernel: ScatterKernel = {
      kind: "scatter",
      shape: [37],
      axis: 0,
      buffer: 0,
      view: { offset: 0, strides: [0] },
      stride: 1,
      size: 3,
      index: { kind: "const", value: 1, dtype: "i32" },
      source: { kind: "const", value: 2, dtype: "f32" },
    };
    const [sum] = await runKernel(backend, kernel, [{
      dtype: "f32",
      data: [1, 1, 1],
    }]);
    assertEquals(sum, [1, 75, 1]);
  });
}
