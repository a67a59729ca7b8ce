/**
 * What the kernels of attention and of its gradient have in common: sizes, the walk over heads, and products of blocks.
 *
 * Letters: H query heads, K key and value heads, G = H / K, T time, S source time, D head size. A unit is a key head of
 * an example, with the G query heads that read it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { AttentionSpec } from "../fused_spec.ts";
import type { FusedKernel, Strided } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import type {
  Bound,
  FunctionBuilder,
  Local,
  Pointer,
  Range,
} from "./assembler.ts";
import type { Lanes } from "./lanes.ts";
import { i32 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import { sharedNumbers } from "./shared.ts";
import { STRIP } from "./strips.ts";

/** Most keys of a block: a row of scores and what is multiplied with it stay in the first cache. */
const KEYS = 128;

/** Sizes of a kernel. */
export interface Sizes {
  /** Axes before those of attention. */
  readonly lead: readonly number[];
  readonly K: number;
  readonly G: number;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  /** D and S in whole panels. */
  readonly width: number;
  readonly source: number;
  /** Most queries and keys of a block. */
  readonly rows: number;
  readonly keys: number;
  /** How many units there are. */
  readonly units: number;
}

/** The sizes of a kernel whose blocks have at most `most` queries. */
export function sizesOf(
  { operands: [q, k] }: FusedKernel,
  most: number,
): Sizes {
  const lead = q!.shape.slice(0, -3);
  const [T, H, D] = q!.shape.slice(-3) as [number, number, number];
  const [S, K] = k!.shape.slice(-3) as [number, number, number];
  const blocks = Math.ceil(T / most);
  const source = whole(S);
  return {
    lead,
    K,
    G: H / K,
    T,
    S,
    D,
    width: whole(D),
    source,
    rows: STRIP * Math.ceil(T / blocks / STRIP),
    keys: Math.min(KEYS, source),
    units: sizeOf(lead) * K,
  };
}

/** A number of columns in whole panels. */
function whole(size: number): number {
  return PANEL * Math.ceil(size / PANEL);
}

/** The same of a number that is known at run time only. */
export function inPanels(code: FunctionBuilder, size: Bound): Bound {
  if (typeof size === "number") return whole(size);
  const local = code.local();
  code.push(size).const(PANEL - 1).op(i32.add).const(-PANEL).op(i32.and);
  code.set(local);
  return { local };
}

/** Bytes from one time to the next of an operand or result [..., T, heads, D]. */
export function timeStride({ view }: Strided): number {
  return 4 * view.strides.at(-3)!;
}

/** Locals with addresses in scratch memory. */
export function places<N extends string>(
  code: FunctionBuilder,
  scratch: Pointer,
  offsets: Readonly<Record<N, number>>,
): Record<N, Pointer> {
  const locals = Object.entries<number>(offsets).map(([name, offset]) => {
    const local = code.pointer();
    code.get(scratch).const(offset).plus().set(local);
    return [name, local];
  });
  return Object.fromEntries(locals) as Record<N, Pointer>;
}

/** Keys behind what a query sees that other queries of its strip may see: their weights are set to 0. */
export const BEHIND = 8;

/** Bytes from one row of scores to the next. */
export function strideOf({ keys }: Sizes): number {
  return 4 * (keys + BEHIND);
}

/** Pairs of a query and a key of one head that are computed, about. */
export function pairsOf(
  { T, S }: Sizes,
  { causal, position }: AttentionSpec,
): number {
  if (!causal) return T * S;
  const first = position ?? Math.max(0, S - T) / 2;
  return T * Math.min(S, first + T / 2 + KEYS / 4);
}

/** What is known of which keys queries see, in code for one unit. */
export interface Sight extends Pick<AttentionSpec, "causal" | "window"> {
  /** Position of the first query. */
  readonly position: Bound;
}

/** The sight of all units, and what prepares it for one. */
export function sightOf(
  code: FunctionBuilder,
  { spec, operands }: FusedKernel<AttentionSpec>,
): { readonly sight: Sight; readonly prepare: (unit: Unit) => void } {
  const { position } = spec;
  if (position !== null) {
    return { sight: { ...spec, position }, prepare: () => {} };
  }
  const local = code.local();
  return {
    sight: { ...spec, position: { local } },
    prepare: (unit) => {
      const from = addressOf(code, operands.at(-1)!, unit);
      code.get(from).memory(i32.load).set(local);
    },
  };
}

/** A unit: which example, and which key head. */
export interface Unit {
  /** Index on each leading axis. */
  readonly lead: readonly Local[];
  /** Which key head. */
  readonly head: Local;
}

/** Calls `body` for each unit of a range. */
export function eachUnit(
  code: FunctionBuilder,
  { lead, K }: Sizes,
  { from, to }: Range,
  body: (unit: Unit) => void,
): void {
  const [unit, rest, head] = code.locals(3);
  const indices = code.locals(lead.length);
  code.push(from).set(unit);
  code.while(() => code.get(unit).push(to).op(i32.ltS), () => {
    code.get(unit).set(rest);
    [K, ...lead.toReversed()].forEach((extent, i) => {
      code.get(rest).const(extent).op(i32.remU);
      code.set(i === 0 ? head : indices.at(-i)!);
      code.get(rest).const(extent).op(i32.divU).set(rest);
    });
    body({ lead: indices, head });
    code.increment(unit, 1);
  });
}

/** A local with the address of an operand or result at a unit, and at a head where it has an axis for that. */
export function addressOf(
  code: FunctionBuilder,
  { buffer, view: { offset, strides } }: Strided,
  { lead }: Unit,
  head?: { readonly local: Local; readonly axis: number },
): Pointer {
  const address = code.pointer();
  code.get(buffer as Pointer).const(4 * offset).plus();
  const step = (index: Local, stride: number) =>
    code.get(index).const(4 * stride).op(i32.mul).plus();
  lead.forEach((index, i) => step(index, strides[i]!));
  if (head) step(head.local, strides.at(head.axis)!);
  code.set(address);
  return address;
}

/** Calls `body` with the number of each query head of a unit. */
export function eachHead(
  code: FunctionBuilder,
  { G }: Sizes,
  { head }: Unit,
  body: (head: Local) => void,
): void {
  if (G === 1) return body(head);
  const [query, end] = code.locals(2);
  code.get(head).const(G).op(i32.mul).tee(query);
  code.const(G).op(i32.add).set(end);
  code.doWhile(() => {
    body(query);
    code.increment(query, 1);
  }, () => code.get(query, end).op(i32.ltS));
}

/** Pushes an address: a base, and an index times bytes. */
export function at(
  code: FunctionBuilder,
  base: Pointer,
  index: Bound,
  bytes: number,
): FunctionBuilder {
  code.get(base);
  return index === 0 ? code : code.push(index).const(bytes).op(i32.mul).plus();
}

/** A block of a product, its rows and columns in scratch memory in whole panels. */
export interface Product {
  /** Whether rows of the left operand are contiguous, or its columns. */
  readonly order: "rows" | "columns";
  /** Pushes the address of the left operand. */
  readonly a: () => void;
  /** Bytes between its rows, or columns. */
  readonly aStride: number;
  /** Pushes the address of the panels of the right operand. */
  readonly b: () => void;
  /** Bytes between them. */
  readonly panelStride: Bound;
  /** Pushes the address of the result. */
  readonly c: () => void;
  /** Bytes between its rows. */
  readonly cStride: number;
  readonly m: Bound;
  readonly n: Bound;
  readonly k: Bound;
  /** 0 adds to what is there. */
  readonly isFirst: Bound;
}

/** Emits a product. Its tile is never used. */
export function multiply(v: Lanes, product: Product): void {
  const { code } = v;
  const { order, aStride, panelStride, cStride } = product;
  product.a();
  code.const(aStride).const(order === "rows" ? STRIP * aStride : 4 * STRIP);
  product.b();
  code.const(4 * PANEL).push(panelStride);
  product.c();
  code.const(cStride).push(product.m).push(product.n).push(product.k);
  code.push(product.isFirst).address(0);
  const shared = sharedNumbers();
  code.call(order === "rows" ? shared.rows : shared.columns);
}

/** Packs a matrix with contiguous rows, or its transpose, as a right operand. */
export function pack(
  v: Lanes,
  order: "rows" | "columns",
  source: () => void,
  stride: number,
  to: () => void,
  k: Bound,
  n: Bound,
): void {
  const { pack } = sharedNumbers();
  source();
  v.code.const(stride);
  to();
  v.code.push(k).push(n).call(pack.f32[order]);
}
