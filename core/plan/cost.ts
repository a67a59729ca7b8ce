/**
 * What it costs to compute a node again wherever it is used, rather than to store it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Node, OpName } from "../node.ts";
import { ops } from "../ops.ts";
import { sizeOf } from "../shape.ts";
import { isView } from "./view.ts";

/** Scalar work of an op relative to an addition; what is not listed is costly. */
export const WORK: { readonly [K in OpName]?: number } = {
  alias: 0,
  stopGradient: 0,
  fill: 0,
  iota: 0,
  neg: 1,
  abs: 1,
  sign: 1,
  floor: 1,
  not: 1,
  cast: 1,
  unpack: 2,
  add: 1,
  sub: 1,
  mul: 1,
  maximum: 1,
  minimum: 1,
  eq: 1,
  lt: 1,
  and: 1,
  or: 1,
  select: 1,
  div: 2,
  sqrt: 2,
  exp: 8,
  tanh: 8,
};

/** Most work that is rather done again in each of several kernels than stored, where it reads one buffer. */
export const RECOMPUTED = 16;

/** The same where an element is used many times in one kernel. */
export const REPEATED = 2;

/** The same where no buffer is read: masks and positions. */
const POSITIONS = 8;

/** Work that is never done twice. */
const COSTLY = 100;

/** What it takes to compute a node inside a kernel. */
export interface Cost {
  /** Scalar work for an element. */
  readonly work: number;
  /** Buffers that it reads, but for those that are repeated along an axis. */
  readonly loads: number;
}

/** Whether a node is rather computed again than stored; `most` is the work that may cost. */
export function isCheap({ work, loads }: Cost, most: number): boolean {
  return work <= (loads === 0 ? POSITIONS : most) && loads <= 1;
}

/**
 * Elementwise nodes behind which a reduction or product has no other use: stored instead of it, they cost no more. Only
 * such as it is not smaller than.
 */
function epiloguesOf(
  order: readonly Node[],
  uses: ReadonlyMap<Node, number>,
): Set<Node> {
  const epilogues = new Set<Node>();
  for (const node of order) {
    if (ops[node.op].kind !== "elementwise" && !isView(node)) continue;
    const follows = node.inputs.some((x) => {
      const { kind } = ops[x.op];
      const isFresh = kind === "reduce" || kind === "product" ||
        epilogues.has(x);
      return isFresh && uses.get(x) === 1 &&
        sizeOf(x.shape) === sizeOf(node.shape);
    });
    if (follows) epilogues.add(node);
  }
  return epilogues;
}

/** The cost of each node where these are stored. */
export function costsOf(
  order: readonly Node[],
  uses: ReadonlyMap<Node, number>,
  roots: ReadonlySet<Node>,
): Map<Node, Cost> {
  const costs = new Map<Node, Cost>();
  const epilogues = epiloguesOf(order, uses);
  // What is computed and read for a node, each once; null where it is too much.
  const parts = new Map<Node, ReadonlySet<Node> | null>();
  for (const node of order) {
    const { kind } = ops[node.op];
    const isInline = isComputed(node);
    const operands = node.op === "after" ? [node.inputs[0]!] : node.inputs;
    if (!isInline || operands.some((x) => parts.get(x) === null)) {
      const isLeaf = node.op === "fill" || node.op === "iota";
      const work = isLeaf ? 0 : kind === "index" || isInline ? COSTLY : 0;
      costs.set(node, { work, loads: isLeaf ? 0 : 1 });
      parts.set(node, isInline ? null : new Set(isLeaf ? [] : [node]));
    } else {
      const all = new Set<Node>([node]);
      for (const x of operands) for (const n of parts.get(x)!) all.add(n);
      let work = 0, loads = 0;
      for (const n of all) {
        const isStored = n !== node && roots.has(n) || !isComputed(n);
        if (!isStored) work += isView(n) ? 0 : WORK[n.op] ?? COSTLY;
        else if (sizeOf(n.shape) >= sizeOf(node.shape)) loads++;
      }
      if (epilogues.has(node) && !isView(node)) work = COSTLY;
      costs.set(node, { work, loads });
      // Consumers read a root from its buffer.
      const seen = roots.has(node) ? new Set([node]) : all;
      parts.set(node, work > COSTLY ? null : seen);
    }
  }
  return costs;
}

function isComputed(node: Node): boolean {
  const { op } = node;
  return ops[op].kind === "elementwise" || op === "unpack" || isView(node);
}
