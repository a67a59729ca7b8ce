/**
 * Random numbers: published vectors, the same bits everywhere, independent keys, and moments.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { grad, jit, random, scope, type Tensor, tensor } from "cotan";
import { threefry2x32 } from "../../core/threefry.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { hasGolden, readJson } from "../support/golden.ts";
import { check } from "../support/runs.ts";
import { sizeOf } from "../support/values.ts";

type Words = [number, number];

interface Vector {
  readonly rounds: number;
  readonly ctr: [string, string];
  readonly key: [string, string];
  readonly out: [string, string];
}

/** The golden vectors of 20 rounds. */
function vectors(): { key: Words; counter: Words; out: Words }[] {
  const words = (
    hex: [string, string],
  ): Words => [parseInt(hex[0], 16), parseInt(hex[1], 16)];
  return readJson<{ vectors: Vector[] }>("golden/rng/threefry2x32.json").vectors
    .filter(({ rounds }) => rounds === 20)
    .map(({ key, ctr, out }) => ({
      key: words(key),
      counter: words(ctr),
      out: words(out),
    }));
}

Deno.test({
  name: "the generator gives the published vectors",
  ignore: !hasGolden,
  fn: () => {
    const all = vectors();
    assert(all.length >= 3);
    for (const { key, counter, out } of all) {
      assertEquals(threefry2x32(key, counter), out);
    }
  },
});

// An element's place is a u32 and has two words: counters from 2^31 on are the test above's alone.
eachBackend(
  "bits are the published vectors that elements can reach",
  async (backend) => {
    // The reference computes all that comes before.
    const end = backend === "reference" ? 1000 : 2 ** 31;
    const all = vectors().filter(({ counter }) => counter[0] < end);
    assert(all.length >= (backend === "reference" ? 5 : 28));
    for (const { key, counter: [at, stream], out } of all) {
      using words = jit((key: Tensor, stream: Tensor) =>
        random.bits(key, [2 * at + 2], { stream }).slice([[2 * at, null]])
      );
      const bits = words(
        tensor(Uint32Array.from(key)),
        tensor(Uint32Array.of(stream), { shape: [] }),
      );
      assertEquals([...await bits.data()], out);
    }
  },
  undefined,
  !hasGolden,
);

eachBackend(
  "bits of any key, stream and shape are the generator's words in order",
  async (backend) => {
    const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const shape = fc.array(fc.nat(7), { maxLength: 3 });
    const holds = fc.asyncProperty(
      word,
      word,
      word,
      shape,
      async (a, b, stream, shape) => {
        using bits = scope(() =>
          random.bits(tensor(Uint32Array.of(a, b)), shape, {
            stream: tensor(Uint32Array.of(stream), { shape: [] }),
          })
        );
        const want = Array.from(
          { length: sizeOf(shape) },
          (_, i) => threefry2x32([a, b], [i >>> 1, stream])[i % 2],
        );
        assertEquals([...await bits.data()], want);
      },
    );
    await check(holds, backend === "webgpu" ? 8 : 30);
  },
);

eachBackend(
  "draws are made of the words in the same way on every backend",
  async () => {
    const key = random.key(2 ** 40 + 5);
    const words: Words = [2 ** 8, 5];
    assertEquals([...await key.data()], words);
    const word = (i: number, stream = 0): number =>
      threefry2x32(words, [i >>> 1, stream])[i % 2]!;
    const six = [0, 1, 2, 3, 4, 5];
    const units = six.map((i) => (word(i) >>> 8) / 2 ** 24);
    const draws: [Tensor, number[]][] = [
      [random.uniform(key, [2, 3]), units],
      [
        random.randint(key, [6], { low: -2, high: 5 }),
        six.map((i) => word(i) % 7 - 2),
      ],
      [random.bernoulli(key, 0.5, [6]), units.map((u) => u < 0.5 ? 1 : 0)],
      [random.split(key, 3)[2]!, [word(4), word(5)]],
      [random.foldIn(key, 7), [word(0, 8), word(1, 8)]],
    ];
    for (const [draw, want] of draws) {
      assertEquals(
        [...await draw.data()],
        want,
      );
    }
  },
);

eachBackend(
  "compiled or not, and with a traced count, the bits are the same",
  async () => {
    const key = random.key(3);
    using step = jit((key: Tensor, i: Tensor) =>
      random.bits(random.foldIn(key, i), [4])
    );
    for (const i of [0, 1, 41]) {
      const want = await random.bits(random.foldIn(key, i), [4]).data();
      assertEquals(
        await step(key, tensor(Int32Array.of(i), { shape: [] })).data(),
        want,
      );
    }
  },
);

inFloat64(
  "keys that are split off or folded in differ from each other and from their parent",
  async () => {
    const key = random.key(11);
    const keys = [
      key,
      random.key(12),
      ...random.split(key, 5),
      ...[0, 1, 2, 1000].map((i) => random.foldIn(key, i)),
    ];
    keys.push(...random.split(keys[2]!, 3));
    const draws = await Promise.all(
      keys.map(async (key) => (await random.bits(key, [4]).data()).join()),
    );
    assertEquals(new Set(draws).size, keys.length);
    assertEquals(
      await random.split(key, 2)[0]!.data(),
      await random.split(key, 5)[0]!.data(),
    );
  },
);

/** Mean, variance, and third and fourth standardised moments. */
async function moments(x: Tensor): Promise<number[]> {
  const data = [...await x.data()];
  const mean = (f: (x: number) => number): number =>
    data.reduce((sum, x) => sum + f(x), 0) / data.length;
  const m = mean((x) => x), v = mean((x) => (x - m) ** 2);
  return [
    m,
    v,
    mean((x) => ((x - m) / v ** 0.5) ** 3),
    mean((x) => ((x - m) / v ** 0.5) ** 4),
  ];
}

function assertWithin(
  actual: number[],
  expected: number[],
  deviations: number[],
): void {
  for (const [i, x] of actual.entries()) {
    // Five standard deviations; the key is fixed, so this does not fail by chance.
    assert(
      Math.abs(x - expected[i]!) < 5 * deviations[i]!,
      `moment ${i + 1} is ${x}, expected ${expected[i]}`,
    );
  }
}

eachBackend(
  "the largest uniform number is below the end of the range",
  async () => {
    // The first word of this key begins with 24 ones.
    const key = random.key(10082300);
    assertEquals(await random.uniform(key, [1]).item(), 1 - 2 ** -24);
    for (const [min, max] of [[1, 2], [-3, -1], [0, 1e-3], [-1, 0]] as const) {
      const x = await random.uniform(key, [1], { min, max }).item();
      assert(x < max && x > max - 1e-3 * (max - min), `${x} for ${max}`);
    }
  },
);

inFloat64(
  "uniform numbers have the moments of their distribution and stay in range",
  async () => {
    const n = 40_000, root = Math.sqrt(n);
    const x = random.uniform(random.key(1), [n], { min: -1, max: 3 });
    const deviations = [Math.sqrt(16 / 12), 16 / 12 * Math.sqrt(0.8), 1.6, 1.5]
      .map((d) => d / root);
    assertWithin(await moments(x), [1, 16 / 12, 0, 1.8], deviations);
    const data = await x.data();
    assert(data.every((v) => v >= -1 && v < 3));
  },
);

inFloat64("normal numbers have the moments of their distribution", async () => {
  const n = 40_000, root = Math.sqrt(n);
  const x = random.normal(random.key(2), [200, 200]);
  const deviations = [1, Math.SQRT2, Math.sqrt(6), Math.sqrt(24)].map((d) =>
    d / root
  );
  assertWithin(await moments(x), [0, 1, 0, 3], deviations);
  // Neighbours, whose angles and radii come from one draw, are not related.
  const [a, b] = [x.slice([[0, 100]]), x.slice([[100, 200]])];
  assertWithin([await a.mul(b).mean().item()], [0], [Math.SQRT2 / root]);
});

inFloat64(
  "integers, choices and categories come as often as they should",
  async () => {
    const n = 20_000;
    const count = async (x: Tensor, value: number): Promise<number> =>
      [...await x.data()].filter((v) => v === value).length;
    const dice = random.randint(random.key(3), [n], { low: 1, high: 7 });
    for (const face of [1, 2, 3, 4, 5, 6]) {
      assertWithin([await count(dice, face)], [n / 6], [Math.sqrt(n * 5 / 36)]);
    }
    assertEquals(await count(dice, 0) + await count(dice, 7), 0);
    const coin = random.bernoulli(random.key(4), 0.3, [n]);
    assertWithin([await count(coin, 1)], [0.3 * n], [Math.sqrt(n * 0.21)]);
    const logits = tensor([0.5, 0.3, 0.2]).log().expand([n, 3]);
    const drawn = random.categorical(random.key(5), logits);
    assertEquals(drawn.shape, [n]);
    for (const [i, p] of [0.5, 0.3, 0.2].entries()) {
      assertWithin([await count(drawn, i)], [p * n], [
        Math.sqrt(n * p * (1 - p)),
      ]);
    }
  },
);

eachBackend(
  "a permutation has each number once, by the order of the bits",
  async () => {
    const key = random.key(8);
    for (const n of [0, 1, 6, 300]) {
      const bits = [...await random.bits(key, [n]).data()];
      const want = bits.map((_, i) => i).sort((i, j) => bits[i]! - bits[j]!);
      const drawn = random.permutation(key, n);
      assertEquals(String(drawn), `i32[${n}]`);
      assertEquals([...await drawn.data()], want);
    }
  },
);

inFloat64("permutations come equally often", async () => {
  const counts = new Map<string, number>();
  const n = 3000;
  for (const key of random.split(random.key(9), n)) {
    const drawn = (await random.permutation(key, 3).data()).join();
    counts.set(drawn, (counts.get(drawn) ?? 0) + 1);
  }
  assertEquals(counts.size, 6);
  for (const count of counts.values()) {
    assertWithin([count], [n / 6], [Math.sqrt(n * 5 / 36)]);
  }
});

inFloat64("probabilities of 0 and 1 are never and always", async () => {
  const key = random.key(6);
  assertEquals(
    new Set(await random.bernoulli(key, 0, [500]).data()),
    new Set([0]),
  );
  assertEquals(
    new Set(await random.bernoulli(key, 1, [500]).data()),
    new Set([1]),
  );
  const sure = tensor([[-Infinity, 0, -Infinity]]).expand([500, 3]);
  assertEquals(
    new Set(await random.categorical(key, sure).data()),
    new Set([1]),
  );
});

inFloat64("draws are constants of a gradient", async () => {
  const key = random.key(7);
  const noise = random.normal(key, [3]);
  const slope = grad((x: Tensor) => x.mul(random.normal(key, [3])).sum())(
    tensor([1, 2, 3]),
  );
  assertEquals(await slope.data(), await noise.data());
});
