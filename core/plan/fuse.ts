/**
 * Fusion: kernels that go through the same points, one after another, become one kernel.
 *
 * A kernel is merged with those that compute what it reads, and with neighbours that read what it reads. What is then
 * read by nobody is not stored.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { SimpleKernel } from "./kernel.ts";
import type { Lowered } from "./lowered.ts";
import { merge } from "./merge.ts";
import {
  kernelOf,
  type Nest,
  nestOf,
  readByNest,
  storedBy,
  withoutStores,
} from "./nest.ts";
import { overwritable, readBy, writtenBy } from "./place.ts";
import { type Bindings, fewestBindings } from "./reach.ts";
import { sizeOf } from "../shape.ts";
import { share } from "./share.ts";

/** How far apart two kernels may be that have only their operands in common: what the first makes lives longer. */
const NEARBY = 12;

/** A kernel in the order of work. */
interface Item {
  /** What it does, as long as it may be merged. */
  readonly nest: Nest | null;
  readonly kernel: SimpleKernel;
  readonly reads: ReadonlySet<number>;
  readonly writes: readonly number[];
}

/** The kernels of a program, merged where that saves memory traffic; results may take the place of `donated` values. */
export function fuse(
  { kernels, axes, values, outputs }: Lowered,
  limits: Bindings,
  donated: readonly boolean[],
): SimpleKernel[] {
  const items = kernels.map((kernel, i): Item => ({
    nest: nestOf(kernel, axes[i]!),
    kernel,
    reads: readBy(kernel),
    writes: writtenBy(kernel),
  }));
  const kept = new Set(outputs);
  const sizes = values.map(({ size }) => size);
  const readers = new Map<number, number>();
  const count = ({ reads }: Item, by: number): void => {
    for (const id of reads) readers.set(id, (readers.get(id) ?? 0) + by);
  };
  for (const item of items) count(item, 1);

  /** How many results of a kernel will lie where it reads a donated value that is needed no more. */
  const inPlace = ({ kernel, reads, writes }: Item, after: number): number => {
    const free = new Set([...reads].filter((id) => donated[id]));
    for (const { reads } of items.slice(after)) {
      for (const id of reads) free.delete(id);
    }
    let count = 0;
    for (const id of writes) {
      if (!kept.has(id)) continue;
      const over = overwritable(kernel, id, values).find((x) => free.has(x));
      if (over !== undefined && free.delete(over)) count++;
    }
    return count;
  };

  /** Merges two items if they go together, dropping what only the second read of the first. */
  const tryMerge = (a: Item, b: Item, after: number): Item | null => {
    if (!a.nest || !b.nest) return null;
    const between = a.writes.filter((id) => b.reads.has(id));
    if (b.writes.some((id) => a.reads.has(id) || a.writes.includes(id))) {
      return null;
    }
    const merged = merge(a.nest, b.nest);
    if (!merged) return null;
    const dead = between.filter((id) => !kept.has(id) && readers.get(id) === 1);
    const nest = withoutStores(merged, (id) => dead.includes(id));
    const reads = readByNest(nest), writes = storedBy(nest);
    const both = { nest, kernel: kernelOf(nest), reads, writes };
    const excess = fewestBindings(both.kernel, limits) -
      limits.buffersPerKernel;
    return excess > 0 && excess > inPlace(both, after) ? null : both;
  };

  for (let at = 0; at < items.length; at++) {
    for (let again = true; again;) {
      again = false;
      const item = items[at]!;
      for (const from of candidates(items, at, sizes)) {
        const order = reorder(items, from, at);
        if (!order) continue;
        const merged = tryMerge(items[from]!, item, at + 1);
        if (!merged) continue;
        count(items[from]!, -1);
        count(item, -1);
        count(merged, 1);
        items.splice(
          from,
          at - from + 1,
          ...order.before,
          merged,
          ...order.after,
        );
        at = from + order.before.length;
        again = true;
        break;
      }
    }
  }
  return items.map(({ kernel }) => share(kernel));
}

/** Earlier kernels that one might be merged with, nearest first: its producers, and neighbours that share a read. */
function candidates(
  items: readonly Item[],
  at: number,
  sizes: readonly number[],
): number[] {
  const { nest, reads } = items[at]!;
  if (!nest) return [];
  const points = sizesOf(nest);
  const found: number[] = [];
  for (let i = at - 1; i >= 0; i--) {
    const { writes, reads: others, nest: other } = items[i]!;
    if (!other) continue;
    const isProducer = writes.some((id) => reads.has(id));
    const isNeighbour = at - i <= NEARBY &&
      [...others].some((id) => reads.has(id) && sizes[id]! >= points[0]);
    if (!isProducer && !isNeighbour) continue;
    if (sizesOf(other).some((size) => points.includes(size))) found.push(i);
  }
  return found;
}

/** How many points a nest has, and how many rows. */
function sizesOf({ shape, over }: Nest): [points: number, rows: number] {
  const rows = sizeOf(shape);
  return [rows * sizeOf(over), rows];
}

/**
 * The items between two that are to become one, those before and those after it; null where something between must
 * come after the first and before the second.
 */
function reorder(
  items: readonly Item[],
  first: number,
  second: number,
): { before: Item[]; after: Item[] } | null {
  const before: Item[] = [], after: Item[] = [];
  // What the first reads and writes, and all that must come after it.
  const reads = new Set(items[first]!.reads);
  const writes = new Set(items[first]!.writes);
  const follows = (item: Item): boolean =>
    meets(item.writes, reads) || meets(item.writes, writes) ||
    meets(item.reads, writes);
  for (let i = first + 1; i < second; i++) {
    const item = items[i]!;
    if (!follows(item)) {
      before.push(item);
      continue;
    }
    after.push(item);
    item.reads.forEach((id) => reads.add(id));
    item.writes.forEach((id) => writes.add(id));
  }
  const last = items[second]!;
  const stuck = after.some((item) => dependsOn(last, item));
  return stuck ? null : { before, after };
}

/** Whether the order of two items matters. */
function dependsOn(later: Item, earlier: Item): boolean {
  return earlier.writes.some((id) =>
    later.reads.has(id) || later.writes.includes(id)
  ) || meets(later.writes, earlier.reads);
}

function meets(ids: Iterable<number>, others: ReadonlySet<number>): boolean {
  for (const id of ids) if (others.has(id)) return true;
  return false;
}
