/**
 * Arbitraries: what they draw is what the options say, brings its own code, and shrinks.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type DType, type Shape, tensor as makeTensor, tree } from "cotan";
import { arbitraries, checkGrads, HostTensor, toTensors } from "cotan/testing";
import { broadcastShapes, sizeOf } from "../../../core/shape.ts";
import { inFloat64 } from "../../support/backends.ts";
import { check } from "../../support/runs.ts";

const { shape, broadcastable, tensor, tree: trees } = arbitraries(fc);

Deno.test("shapes have the ranks and sizes that are asked for", async () => {
  const limits = fc.record({
    minRank: fc.nat(2),
    more: fc.nat(2),
    minSize: fc.nat(3),
    larger: fc.nat(3),
  });
  const drawn = limits.chain(({ minRank, more, minSize, larger }) => {
    const maxRank = minRank + more, maxSize = minSize + larger;
    const options = { minRank, maxRank, minSize, maxSize };
    return fc.tuple(fc.constant(options), shape(options));
  });
  const holds = fc.property(drawn, ([options, shape]) => {
    assert(shape.length >= options.minRank && shape.length <= options.maxRank);
    assert(
      shape.every((d) => d >= options.minSize && d <= options.maxSize),
    );
  });
  await check(holds, 100);
});

Deno.test("broadcastable shapes broadcast, in all the ways there are", () => {
  const pairs = fc.sample(broadcastable(), { numRuns: 500, seed: 1 });
  for (const [a, b] of pairs) assert(broadcastShapes(a, b), `${a} and ${b}`);
  const some = (holds: (a: Shape, b: Shape) => boolean): boolean =>
    pairs.some(([a, b]) => holds(a, b));
  assert(some((a, b) => a.length < b.length));
  assert(some((a, b) => a.length > b.length));
  assert(some((a, b) => a.some((d, i) => d === 1 && b[i]! > 1)));
  assert(some((a, b) => b.some((d, i) => d === 1 && a[i]! > 1)));
});

inFloat64("elements keep the range, the kinks and the dtype", async () => {
  const options = fc.record({
    dtype: fc.constantFrom<DType>("f32", "i32", "u32", "bool"),
    min: fc.integer({ min: 0, max: 5 }),
    more: fc.constantFrom(0, 1, 0.5, 100),
  });
  const drawn = options.chain(({ dtype, min, more }) => {
    const range = { min, max: min + Math.ceil(more) };
    return tensor({ dtype, ...range, shape: { minSize: 0 } })
      .map((x) => ({ x, dtype, ...range }));
  });
  const holds = fc.asyncProperty(drawn, async ({ x, dtype, min, max }) => {
    assertEquals(x.dtype, dtype);
    assertEquals(x.data.length, sizeOf(x.shape));
    const [low, high] = dtype === "bool" ? [0, 1] : [min, max];
    assert(x.data.every((v) => v >= low && v <= high));
    assert(dtype === "f32" || x.data.every(Number.isInteger));
    // The code it prints as makes the same tensor.
    const made = toTensors(x);
    const again = new Function("tensor", `return ${x}`)(makeTensor);
    assertEquals(String(again), String(made));
    assertEquals(await again.data(), await made.data());
    again.dispose();
    made.dispose();
  });
  await check(holds, 60);
  const clear = tensor({ kinks: [0, 1.3], distinct: true, shape: [5] });
  for (const { data } of fc.sample(clear, 50)) {
    assert(data.every((v) => Math.abs(v) > 0.005 && Math.abs(v - 1.3) > 0.005));
    assertEquals(new Set(data).size, 5);
  }
});

Deno.test("a range that holds nothing is refused", () => {
  const error = assertThrows(() => tensor({ min: 4, max: 3 }), RangeError);
  assertEquals(
    error.message,
    "Cannot draw elements from 4 to 3: min must not be above max",
  );
});

Deno.test("a counterexample is small and prints as code", () => {
  const result = fc.check(
    fc.property(tensor(), (x) => x.data.every((v) => v <= 1)),
    { seed: 3 },
  );
  const found = result.counterexample![0];
  assert(sizeOf(found.shape) <= 4, String(found));
  assertEquals(found.data.filter((v) => v !== 0), [1 + 1 / 64]);
  assert(fc.stringify(found).startsWith("tensor("), fc.stringify(found));
});

Deno.test("tensors of the host print as what makes them", () => {
  const cases: [HostTensor, string][] = [
    [new HostTensor([], "f32", [1.5]), "tensor(1.5)"],
    [new HostTensor([1, 2], "f32", [1, 2]), "tensor([[1,2]])"],
    [new HostTensor([2], "bool", [1, 0]), "tensor([true,false])"],
    [new HostTensor([1], "u32", [3]), 'tensor([3], { dtype: "u32" })'],
    [new HostTensor([2, 0], "f32", []), "tensor([], { shape: [2,0] })"],
    [
      new HostTensor([0], "bool", []),
      'tensor([], { shape: [0], dtype: "bool" })',
    ],
  ];
  for (const [x, text] of cases) assertEquals(String(x), text);
});

inFloat64("trees are checked as they are", async () => {
  const seen = new Set<string>();
  const holds = fc.asyncProperty(trees({ min: 0.5 }), async (params) => {
    await checkGrads(
      (p) =>
        tree.leaves(p as tree.Tree).map(({ leaf }) => leaf.log().sum())
          .reduce((a, b) => a.add(b)),
      [params],
    );
    assertEquals(toTensors(params).weight.shape, params.weight.shape);
    tree.leaves(toTensors(params)).forEach(({ path }) =>
      seen.add(path.replace(/\d+/, "*"))
    );
  });
  await check(holds, 20);
  assert(seen.has("weight") && [...seen].some((path) => path.includes(".*")));
});
