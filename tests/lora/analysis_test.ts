import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import fc from "fast-check";
import {
  concat,
  eye,
  init,
  random,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../../core/mod.ts";
import {
  analyse,
  type Similarity,
  similaritySvg,
  singularValuesSvg,
  subspaceSimilarity,
} from "../../lora/mod.ts";
import { check } from "../support/runs.ts";

await init({ backend: "reference", precision: "f64" });

const draw = (seed: number, ...shape: number[]) =>
  random.normal(random.key(seed), shape);

/** A layer [6, 5] with an adapter of rank R. */
function layer(seed: number, R: number, scale = 2) {
  const own = { a: draw(seed, R, 5), b: draw(seed + 1, 6, R) };
  return {
    weight: draw(seed + 2, 6, 5),
    lora: { ...own, scale: tensor(scale) },
  };
}

/** Columns made orthonormal, one after another. */
function orthonormal(x: Tensor): Tensor {
  const columns: Tensor[] = [];
  for (let j = 0; j < x.shape[1]!; j++) {
    let v = x.slice([null, [j, j + 1]]);
    for (const u of columns) v = v.sub(u.mul(u.mul(v).sum()));
    columns.push(v.div(v.square().sum().sqrt()));
  }
  return concat(columns, { axis: 1 });
}

/** The only grid of two trees with a layer each. */
async function gridOf(one: Tree, other: Tree): Promise<Similarity["grid"]> {
  const [found, ...more] = await subspaceSimilarity(one, other);
  assertEquals(more, []);
  return found!.grid;
}

const near = (x: number, y: number, within = 1e-9) =>
  assert(Math.abs(x - y) <= within * Math.max(1, Math.abs(y)), `${x}, ${y}`);

Deno.test("singular values are those that a change is made of", async () => {
  const u = orthonormal(draw(1, 6, 3)), v = orthonormal(draw(2, 5, 3));
  const values = [4, 1.5, 0.25];
  const mixed = orthonormal(draw(3, 3, 3));
  const b = u.mul(tensor(values)).matmul(mixed);
  const a = mixed.transpose().matmul(v.transpose());
  const tuned = {
    weight: eye(6).slice([null, [0, 5]]),
    lora: { a, b, scale: tensor(-2) },
  };
  const { rows: [row] } = await analyse({ q: tuned });
  assertEquals(row!.path, "q");
  row!.singularValues.forEach((s, i) => near(s, 2 * values[i]!));
  near(row!.change, 2 * Math.hypot(...values));
  // What the weight has in those directions.
  const inside = await u.transpose().matmul(tuned.weight).matmul(v)
    .square().sum().sqrt().item();
  near(row!.projected, inside);
  near(row!.amplification, row!.change / inside);
});

Deno.test("each slice is analysed on its own, and the table names all", async () => {
  const half = () => ({ a: draw(4, 1, 5), b: draw(5, 3, 1), scale: tensor(1) });
  const tuned = {
    c: { weight: draw(6, 6, 5), bias: draw(7, 6), lora: [null, half()] },
  };
  const analysis = await analyse(tuned);
  assertEquals(analysis.rows.map(({ path }) => path), ["c.1"]);
  const below = tuned.c.weight.slice([[3, 6]]);
  const alone = await analyse({ weight: below, lora: half() });
  near(analysis.rows[0]!.projected, alone.rows[0]!.projected);
  assertStringIncludes(String(analysis), "amplified");
  assertStringIncludes(String(analysis), "c.1");
});

Deno.test("the similarity of subspaces is 1 with itself, within 0 and 1, and no matter of how A is mixed", async () => {
  const rank = fc.integer({ min: 1, max: 4 });
  const property = fc.asyncProperty(
    rank,
    rank,
    fc.nat(1000),
    async (r, s, seed) => {
      const one = { q: layer(seed, r) }, other = { q: layer(seed + 50, s) };
      const grid = await gridOf(one, other);
      assertEquals([grid.length, grid[0]!.length], [r, s]);
      assert(grid.flat().every((phi) => phi >= 0 && phi <= 1 + 1e-12));
      // Symmetric.
      const back = await gridOf(other, one);
      grid.forEach((row, i) =>
        row.forEach((phi, j) => near(phi, back[j]![i]!))
      );
      // Rotated rows span the same, and keep the singular vectors.
      const turn = orthonormal(draw(seed + 99, r, r));
      const turned = {
        q: { ...one.q, lora: { ...one.q.lora, a: turn.matmul(one.q.lora.a) } },
      };
      const own = await gridOf(one, turned);
      own.forEach((row, i) => near(row[i]!, 1, 1e-6));
    },
  );
  await check(property, 20);
});

Deno.test("the first directions of equation 4 are counted as the formula says", async () => {
  const make = (...rows: number[][]) => ({
    weight: eye(3),
    lora: {
      a: tensor(rows),
      b: tensor([[1, 1], [0, 0], [0, 0]]),
      scale: tensor(1),
    },
  });
  const one = make([3, 0, 0], [0, 2, 0]); // e1, then e2
  const other = make([0, 3, 0], [0, 0, 2]); // e2, then e3
  const grid = await gridOf(one, other);
  assertEquals(grid, [[0, 0], [1, 0.5]]);
});

Deno.test("pictures have a cell for each pair and a bar for each value", async () => {
  const tuned = { "a<b": layer(1, 2) };
  const heat = similaritySvg(await subspaceSimilarity(tuned, tuned));
  assertEquals(heat.match(/<rect /g)?.length, 4);
  assertStringIncludes(heat, "a&lt;b");
  const bars = singularValuesSvg(await analyse(tuned));
  assertEquals(bars.match(/<rect /g)?.length, 2);
  for (const svg of [heat, bars]) {
    assert(svg.startsWith("<svg ") && !svg.includes("NaN"));
  }
});

Deno.test("adapters by name, and trees that differ, are errors", async () => {
  const { weight, lora } = layer(1, 1);
  const named = { q: { weight, lora: { tales: lora } } };
  await assertRejects(
    () => analyse(named),
    TreeError,
    "Cannot analyse adapters: those at q have names; choose one by activate",
  );
  await assertRejects(
    () => subspaceSimilarity({ q: layer(1, 1) }, { k: layer(1, 1) }),
    TreeError,
    "Cannot compare adapters: one tree has them at q, and the other at k",
  );
  await assertRejects(
    () => analyse({ weight }),
    TreeError,
    "Cannot analyse adapters: no layer of the tree has an adapter",
  );
});
