import fc from "fast-check";
import type { Expr, MatmulKernel, Matrix } from "../../../core/plan/kernel.ts";
import { type Shape, sizeOf } from "../../../core/shape.ts";
import { check } from "../../support/runs.ts";
import {
  acc,
  assertClose,
  backends,
  type Buffer,
  call,
  constant,
  load,
  noise,
  runKernel,
  simulate,
  viewOf,
  whole,
} from "./support.ts";

/** How a packed matrix lies, and what its numbers are multiplied by. */
interface Layout {
  readonly offset: number;
  /** The axes, the outermost first, and the distances of their elements. */
  readonly order: readonly number[];
  readonly step: readonly number[];
  readonly isLevelled: boolean;
  readonly times: number;
}

const layouts: fc.Arbitrary<Layout> = fc.record({
  offset: fc.constantFrom(0, 0, 4, 5),
  order: fc.constantFrom([0, 1], [1, 0]),
  step: fc.constantFrom([1, 1], [1, 1], [4, 1], [3, 1], [1, 2]),
  isLevelled: fc.boolean(),
  times: fc.constantFrom(0, 1, 2, 3, 4, 16, 64),
});

const levels = Array.from({ length: 16 }, (_, i) => Math.fround((i - 7) / 8));

/** A computed matrix over batches of a shape, and the buffers of its words and scales, numbered from `first` on. */
function computed(
  first: number,
  batch: number,
  shape: Shape,
  { offset, order, step, isLevelled, times }: Layout,
): { matrix: Matrix; buffers: Buffer[] } {
  const { view: near, size } = viewOf(shape, order, step);
  const batched = (strides: readonly number[]) => [
    ...new Array<number>(batch).fill(0),
    ...strides,
  ];
  const view = {
    offset: near.offset - 3 + offset,
    strides: batched(near.strides),
  };
  const words = Math.ceil((size + offset) / (isLevelled ? 8 : 4)) + 1;
  const buffers: Buffer[] = [{
    dtype: "u32",
    data: noise(words, 7).map((x) => Math.floor((x + 1) * 2 ** 31)),
  }];
  const unpacked: Expr = {
    kind: "unpack",
    buffer: first,
    view,
    levels: isLevelled ? levels : null,
    dtype: "f32",
  };
  let expr: Expr = isLevelled ? unpacked : call("mul", [
    call("sub", [unpacked, constant(128)]),
    constant(1 / 128),
  ]);
  if (times > 0) {
    buffers.push({ dtype: "f32", data: noise(words * 8 + 1, 8) });
    const at = { buffer: first + 1, view, dtype: "f32" } as const;
    const scale: Expr = times === 1
      ? load(first + 1, { offset: 0, strides: batched([1, 0]) })
      : { kind: "repeat", ...at, times };
    expr = call("mul", [expr, scale]);
  }
  return { matrix: { buffer: first, view, dtype: "f32", expr }, buffers };
}

const sizes = fc.constantFrom(1, 2, 3, 4, 5, 8, 13, 64, 70);
const inner = fc.constantFrom(1, 4, 7, 64, 100, 192);

for (const [name, backend] of Object.entries(backends)) {
  Deno.test(`products compute what is packed as they read it, ${name}`, async () => {
    const property = fc.asyncProperty(
      fc.tuple(sizes, sizes, inner).filter((all) => sizeOf(all) < 2e5),
      fc.constantFrom([], [2]),
      fc.constantFrom("left", "right", "both"),
      layouts,
      fc.constantFrom([0, 1], [1, 0]),
      async ([m, n, k], batch, which, layout, order) => {
        const shape = [...batch, m, n];
        const plain = (shape: Shape, buffer: number): Matrix => {
          return { buffer, view: whole(shape), dtype: "f32" };
        };
        const [left, right] = [[m, k], [k, n]] as const;
        const a = computed(4, batch.length, left, layout);
        const b = computed(4 + a.buffers.length, batch.length, right, layout);
        const axes = order.map((axis) => axis + batch.length);
        const out = viewOf(
          shape,
          [...batch.keys(), ...axes],
          shape.map(() => 1),
        );
        const kernel: MatmulKernel = {
          kind: "matmul",
          shape,
          k,
          a: which === "right" ? plain([...batch, m, k], 0) : a.matrix,
          b: which === "left" ? plain([...batch, k, n], 1) : b.matrix,
          outputs: [
            { buffer: 2, view: out.view, expr: acc() },
            {
              buffer: 3,
              view: whole(shape),
              expr: call("add", [acc(), load(3, whole(shape))]),
            },
          ],
        };
        const floats = (count: number, seed: number): Buffer => {
          return { dtype: "f32", data: noise(count, seed) };
        };
        const buffers = [
          floats(sizeOf([...batch, m, k]), 1),
          floats(sizeOf([...batch, k, n]), 2),
          floats(out.size, 3),
          floats(sizeOf(shape), 4),
          ...a.buffers,
          ...b.buffers,
        ];
        const actual = await runKernel(backend, kernel, buffers);
        const expected = simulate(kernel, buffers);
        const scale = Math.sqrt(k) + 1;
        [2, 3].forEach((i) =>
          assertClose(actual[i]!, expected[i]!, 2e-6, scale)
        );
      },
    );
    const columns = {
      offset: 0,
      order: [1, 0],
      step: [1, 1],
      isLevelled: true,
      times: 4,
    };
    await check(property, 60, [
      // Parts of threads begin within a vector.
      [[64, 5, 64], [], "left", columns, [0, 1]],
    ]);
  });
}
