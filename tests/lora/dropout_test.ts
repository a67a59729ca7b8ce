/**
 * Dropout of adapters' inputs.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { grad, jit, random, type Tensor, tensor, tree, zeros } from "cotan";
import { isAdapter, lora, withDropout } from "cotan/lora";
import { linear } from "cotan/nn";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  adaptGpt,
  distance,
  gpt,
  type GptParams,
  gptParams,
  moved,
  outputs,
  queryAndValue,
  someIds,
  typesIn,
} from "./support.ts";

eachBackend(
  "dropout of an adapter's input comes from a key, and without one there is none",
  async () => {
    const params = gptParams();
    const make = (dropout: number) =>
      moved(adaptGpt(params, { dropout, parts: queryAndValue }));
    const [none, some] = [make(0), make(0.5)];
    assertEquals(typesIn(none, /rate/), []);
    const plain = await outputs(gpt, none);
    assertEquals(await outputs(gpt, some), plain);
    const seeded = (seed: number, p = some) =>
      outputs(gpt, withDropout(p, random.key(seed)));
    assertEquals(await seeded(1), await seeded(1));
    assertNotEquals(await seeded(1), await seeded(2));
    assertNotEquals(await seeded(1), plain);
    assertEquals(await seeded(1, none), plain);
    using run = jit((p: GptParams, key: Tensor) =>
      gpt.apply(withDropout(p, key), someIds())
    );
    const traced = [...await run(some, random.key(1)).data()];
    assert(distance(await seeded(1), traced) < 1e-5);
  },
);

eachBackend("a rate of 0 in the tree changes no bit", async () => {
  const params = gptParams();
  const some = moved(adaptGpt(params, { dropout: 0.5 }));
  const [rates, rest] = tree.partition(some, (path) => path.endsWith("rate"));
  const zero = tree.merge(tree.map(() => tensor(0), rates), rest);
  assertEquals(
    await outputs(gpt, withDropout(zero, random.key(1))),
    await outputs(gpt, zero),
  );
});

inFloat64(
  "dropout keeps the mean, drops the same in both directions, and tells layers apart",
  async () => {
    const weight = zeros([1, 4000]);
    const tuned = lora({ p: { weight }, q: { weight } }, {
      targets: ["p", "q"],
      rank: 1,
      alpha: 1,
      key: random.key(2),
      dropout: 0.25,
    });
    const ones = tree.map(
      (x) => x.mul(0).add(1),
      tree.partition(tuned, isAdapter)[0],
    );
    const set = tree.merge(ones, tree.partition(tuned, isAdapter)[1]);
    const dropped = withDropout(set, random.key(7));
    const x = tensor([Array.from({ length: 4000 }, () => 1)]);
    const mean = await linear(dropped.p, x).item() / 4000;
    assert(Math.abs(mean - 1) < 0.03, String(mean));
    const gradient = async (
      p: { weight: Tensor },
    ) => [...await grad((x: Tensor) => linear(p, x).sum())(x).data()];
    const [p, q] = [await gradient(dropped.p), await gradient(dropped.q)];
    assertNotEquals(p, q);
    const seen = p.map((v) => v === 0 ? 0 : 1);
    for (const v of p) assert(v === 0 || Math.abs(v - 4 / 3) < 1e-12);
    assert(
      Math.abs(seen.reduce<number>((a, b) => a + b, 0) / 4000 - mean * 0.75) <
        1e-9,
    );
  },
);
