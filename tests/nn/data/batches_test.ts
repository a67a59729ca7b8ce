import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type Batch,
  orderedBatches,
  type Rows,
  shuffledBatches,
} from "../../../nn/data/mod.ts";

/** Rows of one position, whose id and label is their index. */
const numbered = (length: number): Rows => ({
  length,
  seq: 1,
  at: (i) => ({ ids: Int32Array.of(i), labels: Int32Array.of(i) }),
});

const ids = (batches: Iterable<Batch>): number[] =>
  [...batches].flatMap((batch) => [...batch.ids]);

const size = fc.integer({ min: 1, max: 40 });
const seed = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

Deno.test("every row comes once before any comes again", () => {
  fc.assert(fc.property(size, size, seed, (length, batch, seed) => {
    const rows = numbered(length);
    const drawn = ids(shuffledBatches(rows, { batch, seed }).take(length));
    for (let round = 0; round < batch; round++) {
      const part = drawn.slice(round * length, (round + 1) * length);
      assertEquals(new Set(part).size, length);
    }
  }));
});

Deno.test("a start passes over batches: training goes on where it stopped", () => {
  fc.assert(fc.property(size, size, seed, (length, batch, seed) => {
    const rows = numbered(length);
    const all = ids(shuffledBatches(rows, { batch, seed }).take(7));
    const rest = ids(shuffledBatches(rows, { batch, seed, start: 3 }).take(4));
    assertEquals(rest, all.slice(3 * batch));
  }));
});

Deno.test("the order depends on the seed, on all of its bits, and on the round", () => {
  const rows = numbered(100);
  const order = (seed: number): number[] =>
    ids(shuffledBatches(rows, { batch: 100, seed }).take(2));
  assertEquals(order(5), order(5));
  assertNotEquals(order(5), order(6));
  assertNotEquals(order(5), order(5 + 2 ** 40));
  assertNotEquals(order(5).slice(0, 100), order(5).slice(100));
  assertNotEquals(
    order(0).slice(0, 100),
    Array.from({ length: 100 }, (_, i) => i),
  );
});

Deno.test("every row is as likely to come first", () => {
  const counts = [0, 0, 0, 0];
  for (let seed = 0; seed < 4000; seed++) {
    counts[
      ids(shuffledBatches(numbered(4), { batch: 1, seed }).take(1))[0]!
    ]!++;
  }
  // Three standard deviations of a binomial count of mean 1000.
  for (const count of counts) {
    assertEquals(Math.abs(count - 1000) < 3 * 27.4, true);
  }
});

Deno.test("ordered batches give each row once, the last filled up with what does not count", () => {
  fc.assert(fc.property(size, size, (length, batch) => {
    const batches = [...orderedBatches(numbered(length), { batch })];
    const labels = batches.flatMap((b) => [...b.labels]);
    const expected = Array.from({ length }, (_, i) => i);
    assertEquals(labels.filter((label) => label !== -100), expected);
    assertEquals(labels.length, Math.ceil(length / batch) * batch);
    assertEquals(batches.reduce((n, { tokens }) => n + tokens, 0), length);
  }));
});

Deno.test("batches of no rows, or out of none, are refused", () => {
  assertThrows(
    () => shuffledBatches(numbered(3), { batch: 0 }).next(),
    RangeError,
    "Cannot make batches of 0 rows: the size must be a whole number of at least 1",
  );
  assertThrows(
    () => orderedBatches(numbered(0), { batch: 1 }).next(),
    RangeError,
    "Cannot make batches of no rows",
  );
});
