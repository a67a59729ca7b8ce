import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { init, random } from "../../../core/mod.ts";
import {
  batches,
  type LoadedBatch,
  type LoadOptions,
  type Rows,
} from "../../../nn/data/mod.ts";

await init({ backend: "reference" });

/** Rows whose ids and labels are a number of their own. */
function numbered(length: number, seq: number, first = 0): Rows {
  const fill = (i: number) => new Int32Array(seq).fill(first + i);
  return {
    length,
    seq,
    at: (i) => ({ ids: fill(i), labels: fill(i), tokens: seq - 1 }),
  };
}

const all = (rows: Rows | Rows[], options: LoadOptions) =>
  Array.fromAsync(batches(rows, options));

/** The numbers of the rows of a batch that count. */
function numbers({ ids, labels, shape: [, T] }: LoadedBatch): number[] {
  return [...ids].filter((_, i) => i % T === 0 && labels[i] !== -100);
}

const buckets = [numbered(7, 2), numbered(5, 4, 100), numbered(1, 8, 200)];
const names = buckets.flatMap((rows) =>
  Array.from({ length: rows.length }, (_, i) => rows.at(i).ids[0]!)
);
const key = random.key(3);

Deno.test("each row comes once a round, in batches of one length", async () => {
  const found = await all(buckets, { batch: 3, key, epochs: 2 });
  assertEquals(found.length, 2 * (3 + 2 + 1));
  const rounds = [found.slice(0, 6), found.slice(6)];
  for (const round of rounds) {
    const seen = round.flatMap(numbers);
    assertEquals(seen.toSorted((a, b) => a - b), names);
  }
  assertNotEquals(
    rounds[0]!.flatMap(numbers),
    rounds[1]!.flatMap(numbers),
    "a round has an order of its own",
  );
  for (const { shape: [B, T], ids, labels, mask } of found) {
    assertEquals(B, 3);
    assertEquals([ids.length, labels.length, mask.length], [
      B * T,
      B * T,
      B * T,
    ]);
  }
});

Deno.test("without a key the rows come in order", async () => {
  const found = await all(buckets, { batch: 2 });
  assertEquals(found.flatMap(numbers), names);
});

Deno.test("a number of positions makes short rows come in larger batches", async () => {
  const found = await all(buckets, { tokens: 8 });
  const shapes = new Set(found.map(({ shape }) => shape.join()));
  assertEquals([...shapes].sort(), ["1,8", "2,4", "4,2"]);
});

Deno.test("the mask is 1 at tokens and 0 at padding", async () => {
  const [batch] = await all(numbered(1, 3), { batch: 2 });
  assertEquals([...batch!.mask], [1, 1, 0, 0, 0, 0]);
  assertEquals([...batch!.labels], [0, 0, 0, -100, -100, -100]);
});

Deno.test("from a cursor on come the batches that would have come", async () => {
  const options = { batch: 2, key, epochs: 3 };
  const whole = await all(buckets, options);
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: whole.length - 1 }),
      async (at) => {
        // As it is read back from a file.
        const cursor = JSON.parse(JSON.stringify(whole[at]!.cursor));
        assertEquals(
          await all(buckets, { ...options, cursor }),
          whole.slice(at + 1),
        );
      },
    ),
    { numRuns: 20 },
  );
});

Deno.test("the order depends on the key", async () => {
  const order = async (seed: number) =>
    (await all(numbered(50, 1), { batch: 50, key: random.key(seed) }))
      .flatMap(numbers);
  assertEquals(await order(1), await order(1));
  assertNotEquals(await order(1), await order(2));
  assert((await order(1)).some((n, i) => n !== i));
});

Deno.test("options out of range are errors at the call", () => {
  const rows = numbered(2, 2);
  const cases: [Rows | Rows[], LoadOptions, string][] = [
    [[], { batch: 1 }, "of no rows"],
    [rows, {}, "without a size: give either batch or tokens"],
    [
      rows,
      { batch: 1, tokens: 1 },
      "without a size: give either batch or tokens",
    ],
    [
      rows,
      { batch: 0 },
      "of 0 rows: the size must be a whole number of at least 1",
    ],
    [
      rows,
      { tokens: 1.5 },
      "of 1.5 positions: the size must be a whole number of at least 1",
    ],
    [
      rows,
      { batch: 1, epochs: -1 },
      "of -1 rounds: epochs must be a whole number, or Infinity",
    ],
    [
      rows,
      { batch: 1, cursor: { epoch: 0, batch: -1 } },
      'from {"epoch":0,"batch":-1} on: a cursor has whole numbers',
    ],
  ];
  for (const [rows, options, rule] of cases) {
    assertThrows(
      () => batches(rows, options),
      RangeError,
      `Cannot make batches ${rule}`,
    );
  }
});
