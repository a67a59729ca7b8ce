/**
 * Loop nests over an index space, and the expressions of kernels in them.
 *
 * One axis is the lane axis: along it, four points are computed at once, and several such vectors side by side. Each
 * buffer is read through a pointer that moves with the loops, and what does not depend on a loop is computed outside.
 * A point that stands alone is computed as a vector of four equal lanes, so there is no scalar form of anything.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import { visitExpr } from "../plan/expression.ts";
import type { Expr, Output, View } from "../plan/kernel.ts";
import type { Local } from "./assembler.ts";
import { call, cast, constant } from "./calls.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { i32, i32x4, v128 } from "./opcodes.ts";

/** A number known now, or a local that holds it at run time. */
export type Bound = number | { readonly local: Local };

/** How many points of the lane axis an iteration takes: `copies` vectors of `width` lanes. */
export interface Phase {
  /** 4, or 1 for a point alone. */
  readonly width: 1 | 4;
  /** Vectors side by side. */
  readonly copies: number;
}

/** Phases that cover any extent, with `copies` vectors at a time where there are enough points. */
export function phasesOf(copies: number): Phase[] {
  const rest: Phase[] = [{ width: 4, copies: 1 }, { width: 1, copies: 1 }];
  return copies > 1 ? [{ width: 4, copies }, ...rest] : rest;
}

/** Expressions that are evaluated within the loop over axis `within`. */
export interface Region {
  /** The expressions. */
  readonly exprs: readonly Expr[];
  /** The innermost loop around them. */
  readonly within: number;
}

/** An affine function of the loop indices in a local: an address, or with no buffer a number. */
interface Cursor {
  readonly buffer: number | null;
  readonly view: View;
  local: Local;
}

/** What is known of an expression before code is emitted. */
interface Facts {
  /** The innermost axis that it depends on; -1 for none. */
  readonly depth: number;
  /** Whether it differs along the lane axis. */
  readonly varies: boolean;
}

type Load = Extract<Expr, { kind: "load" }>;
type Index = Extract<Expr, { kind: "index" }>;

/** An element that an index picks. */
export type Gather = Extract<Expr, { kind: "gather" }>;

/** Where an output is stored. */
export type Store = Pick<Output, "buffer" | "view">;

type Scope = Map<Expr, { vectors: Vec[]; offset?: Local }>;

/** A loop nest under construction. */
export class Nest {
  /** Where code goes. */
  readonly lanes: Lanes;
  /** The values of `acc`, by copy. */
  accumulators: readonly Vec[] = [];
  #lane: number;
  #phase: Phase = { width: 1, copies: 1 };
  #cursors: Cursor[] = [];
  #facts = new Map<Expr, Facts>();
  #gathers: Gather[] = [];
  #regions: readonly Region[];
  #scopes: Scope[] = [];

  /** A nest whose lane axis is `lane`; `stores` are the views that it writes, `updated` the elements. */
  constructor(
    lanes: Lanes,
    lane: number,
    regions: readonly Region[],
    stores: readonly Store[],
    updated: readonly Gather[] = [],
  ) {
    this.lanes = lanes;
    this.#lane = lane;
    this.#regions = regions;
    for (const { exprs } of regions) {
      for (const root of exprs) visitExpr(root, (e) => this.#study(e));
    }
    for (const { buffer, view } of [...stores, ...updated]) {
      this.#cursorOf(buffer, view);
    }
    this.#gathers.push(...updated);
  }

  /** Emits the nest: `body` opens its loops. Parameter i of the function is the address of buffer i. */
  enter(body: () => void): void {
    const { code } = this.lanes;
    this.isolate(() => {
      for (const cursor of this.#cursors) {
        const { buffer, view } = cursor;
        cursor.local = code.local();
        if (buffer === null) code.const(view.offset);
        else code.get(buffer).const(4 * view.offset).op(i32.add);
        code.set(cursor.local);
      }
      this.#hoist(-1);
      body();
    });
  }

  /** A loop over an axis; with `phases`, one after another as long as they fit. */
  loop(
    axis: number,
    from: Bound,
    to: Bound,
    body: (phase: Phase) => void,
    phases: readonly Phase[] = [{ width: 1, copies: 1 }],
  ): void {
    const { code } = this.lanes;
    const known = typeof from === "number" && typeof to === "number";
    if (known && from >= to) return;
    this.at(axis, from, (moving) => {
      const left = code.local();
      push(code, to);
      push(code, from);
      code.op(i32.sub).set(left);
      let rest = known ? to - from : Infinity;
      for (const phase of phases) {
        const step = phase.width * phase.copies;
        const trips = Math.floor(rest / step);
        if (trips === 0) continue;
        const more = () => code.get(left).const(step).op(i32.geS);
        const trip = () => {
          this.#within(axis, phase, body);
          for (const { local, buffer, view } of moving) {
            code.increment(local, step * view.strides[axis]! * unit(buffer));
          }
          code.increment(left, -step);
        };
        if (!known) code.while(more, trip);
        else if (trips > 1) code.doWhile(trip, more);
        else trip();
        rest -= trips * step;
      }
    });
  }

  /** Runs `body` with an axis at one index, without a loop; it is given the pointers that depend on the axis. */
  at(
    axis: number,
    index: Bound,
    body: (moving: readonly Cursor[]) => void,
  ): void {
    const { code } = this.lanes;
    const moving = this.#cursors.filter((c) => c.view.strides[axis]);
    const outside = moving.map((c) => c.local);
    code.scope(() => {
      for (const cursor of moving) {
        code.get(cursor.local);
        if (index !== 0) {
          push(code, index);
          code.const(cursor.view.strides[axis]! * unit(cursor.buffer));
          code.op(i32.mul).op(i32.add);
        }
        cursor.local = code.local();
        code.set(cursor.local);
      }
      body(moving);
    });
    moving.forEach((cursor, i) => cursor.local = outside[i]!);
  }

  /** As `at`, with what depends on the axis computed before `body`. */
  fix(axis: number, index: Bound, body: () => void): void {
    this.at(axis, index, () => this.#within(axis, this.#phase, body));
  }

  /** Runs `body`, whose values are forgotten after it. */
  isolate(body: () => void): void {
    this.lanes.code.scope(() => {
      this.#scopes.push(new Map());
      body();
      this.#scopes.pop();
    });
  }

  /** The value of an expression in one of the vectors side by side. */
  value(expr: Expr, copy = 0): Vec {
    if (expr.kind === "const") {
      return constant(this.lanes, expr.value, expr.dtype);
    }
    if (expr.kind === "acc") return this.accumulators[copy]!;
    const slot = this.#facts.get(expr)!.varies ? copy : 0;
    for (const scope of this.#scopes) {
      const known = scope.get(expr)?.vectors[slot];
      if (known) return known;
    }
    const vec = this.#compute(expr, slot);
    this.#entry(expr).vectors[slot] = vec;
    return vec;
  }

  /** The local that holds the address of a buffer's view at the current indices; one of `stores`. */
  pointer(buffer: number, view: View): Local {
    return this.#cursorOf(buffer, view).local;
  }

  /** Stores a vector of an output. */
  store(target: Store, value: Vec, dtype: DType, copy = 0): void {
    const isBool = dtype === "bool";
    const vec = isBool ? this.lanes.i32(v128.and, value, 1) : value;
    this.#store(target, vec, copy, []);
  }

  /** Replaces elements that an index picks. */
  update(target: Gather, change: (old: Vec) => Vec): void {
    const offsets = this.#offsetsOf(target, 0);
    const value = change(this.#load(target, 0, offsets));
    this.#store(target, value, 0, offsets);
  }

  #store(
    { buffer, view }: Store,
    { local }: Vec,
    copy: number,
    offsets: readonly Local[],
  ): void {
    const { code } = this.lanes;
    const { width } = this.#phase;
    const cursor = this.#cursorOf(buffer, view);
    const stride = view.strides[this.#lane] ?? 0;
    const start = this.#startOf(cursor, view, copy);
    if (width === 4 && stride === 1 && offsets.length < 2) {
      const offset = this.#pointAt(cursor, start, offsets[0]);
      code.get(local).memory(v128.store, offset);
      return;
    }
    for (let lane = 0; lane < width; lane++) {
      const at = offsets[offsets.length < 2 ? 0 : lane];
      const offset = this.#pointAt(cursor, start + lane * stride, at);
      code.get(local).memory(v128.store32Lane, offset, lane);
    }
  }

  #within(axis: number, phase: Phase, body: (phase: Phase) => void): void {
    const outside = this.#phase;
    if (axis === this.#lane) this.#phase = phase;
    this.isolate(() => {
      this.#hoist(axis);
      body(this.#phase);
    });
    this.#phase = outside;
  }

  /** Computes what depends on no loop inside of `axis`; the vectors side by side in the innermost loop come one by one. */
  #hoist(axis: number): void {
    for (const [expr, { depth, varies }] of this.#facts) {
      const inner = this.#regions.some((region) =>
        region.within > axis || !varies && region.within === axis
      );
      if (depth === axis && inner) {
        for (let copy = 0; copy < (varies ? this.#phase.copies : 1); copy++) {
          this.value(expr, copy);
        }
      }
    }
    for (const gather of this.#gathers) {
      const { depth, varies } = this.#factsOf(gather.index);
      if (depth === axis && !varies) this.#offsetOf(gather);
    }
  }

  #compute(expr: Exclude<Expr, { kind: "const" | "acc" }>, copy: number): Vec {
    const { lanes } = this;
    switch (expr.kind) {
      case "load":
        return this.#load(expr, copy, []);
      case "gather":
        return this.#load(expr, copy, this.#offsetsOf(expr, copy));
      case "index":
        return this.#index(expr, copy);
      case "cast":
        return cast(
          lanes,
          this.value(expr.arg, copy),
          expr.arg.dtype,
          expr.dtype,
        );
      case "call":
        return call(
          lanes,
          expr,
          expr.args.map((arg) => this.value(arg, copy)),
        );
    }
  }

  /** Loads a vector; `offsets` are locals added to the addresses, for all lanes or one each. */
  #load(
    { buffer, view, dtype }: Load | Gather,
    copy: number,
    offsets: readonly Local[],
  ): Vec {
    const { code } = this.lanes;
    const cursor = this.#cursorOf(buffer, view);
    const start = this.#startOf(cursor, view, copy);
    const stride = view.strides[this.#lane] ?? 0;
    const alike = offsets.length < 2;
    if (this.#phase.width === 1 || stride === 0 && alike) {
      const offset = this.#pointAt(cursor, start, offsets[0]);
      code.memory(v128.load32Splat, offset);
    } else if (stride === 1 && alike) {
      code.memory(v128.load, this.#pointAt(cursor, start, offsets[0]));
    } else {
      const [first, ...others] = [3, 2, 1, 0].map((lane) =>
        this.#pointAt(
          cursor,
          start + lane * stride,
          offsets[alike ? 0 : lane],
        )
      ).reverse();
      code.memory(v128.load32Zero, first);
      others.forEach((at, i) => code.memory(v128.load32Lane, at, i + 1));
    }
    const loaded = this.lanes.pop();
    return dtype === "bool" ? this.lanes.i32(i32x4.ne, loaded, 0) : loaded;
  }

  /** The distances in bytes that a gather's index stands for: one, or one a lane. */
  #offsetsOf(expr: Gather, copy: number): Local[] {
    if (!this.#factsOf(expr.index).varies) return [this.#offsetOf(expr)];
    const { lanes } = this;
    const bytes = this.#bytesOf(expr, copy);
    return Array.from({ length: this.#phase.width }, (_, lane) => {
      lanes.extract(bytes, lane);
      const local = lanes.code.local();
      lanes.code.set(local);
      return local;
    });
  }

  /** The distance in bytes that a gather's index stands for, where it is the same in all lanes. */
  #offsetOf(expr: Gather): Local {
    for (const scope of this.#scopes) {
      const known = scope.get(expr)?.offset;
      if (known !== undefined) return known;
    }
    const { code } = this.lanes;
    this.lanes.extract(this.#bytesOf(expr, 0), 0);
    const offset = code.local();
    code.set(offset);
    this.#entry(expr).offset = offset;
    return offset;
  }

  #bytesOf(expr: Gather, copy: number): Vec {
    const { lanes } = this;
    const index = this.value(expr.index, copy);
    const below = lanes.i32(i32x4.minS, index, expr.size - 1);
    return lanes.i32(
      i32x4.mul,
      lanes.i32(i32x4.maxS, below, 0),
      4 * expr.stride,
    );
  }

  #index({ view, dtype }: Index, copy: number): Vec {
    const { lanes } = this;
    const cursor = this.#cursorOf(null, view);
    const start = this.#startOf(cursor, view, copy);
    const stride = this.#phase.width === 1 ? 0 : view.strides[this.#lane] ?? 0;
    const steps = [0, 1, 2, 3].map((lane) => start + lane * stride);
    const base = lanes.splat(cursor.local);
    const n = steps.some((step) => step !== 0)
      ? lanes.i32(i32x4.add, base, lanes.integer(...steps))
      : base;
    return cast(lanes, n, "i32", dtype);
  }

  /** Elements from a pointer to the first lane of a copy. */
  #startOf(cursor: Cursor, view: View, copy: number): number {
    const stride = view.strides[this.#lane] ?? 0;
    return view.offset - cursor.view.offset +
      copy * this.#phase.width * stride;
  }

  /** Pushes an address near a pointer; the result is what is left to add as an immediate. */
  #pointAt(cursor: Cursor, elements: number, offset?: Local): number {
    const { code } = this.lanes;
    code.get(cursor.local);
    if (offset !== undefined) code.get(offset).op(i32.add);
    if (elements >= 0) return 4 * elements;
    code.const(4 * elements).op(i32.add);
    return 0;
  }

  #entry(expr: Expr): { vectors: Vec[]; offset?: Local } {
    const scope = this.#scopes.at(-1)!;
    let entry = scope.get(expr);
    if (!entry) scope.set(expr, entry = { vectors: [] });
    return entry;
  }

  #cursorOf(buffer: number | null, view: View): Cursor {
    let cursor = this.#cursors.find((c) =>
      c.buffer === buffer && c.view.offset <= view.offset &&
      sameStrides(c.view.strides, view.strides)
    );
    if (!cursor) this.#cursors.push(cursor = { buffer, view, local: -1 });
    return cursor;
  }

  #factsOf(expr: Expr): Facts {
    return this.#facts.get(expr) ?? { depth: -1, varies: false };
  }

  /** Collects facts and pointers. */
  #study(expr: Expr): void {
    if (expr.kind === "const") return;
    const facts = operandsOf(expr).map((operand) => this.#factsOf(operand));
    if (expr.kind === "acc") facts.push({ depth: Infinity, varies: true });
    if (expr.kind === "gather") this.#gathers.push(expr);
    if ("view" in expr) {
      const { strides } = expr.view;
      const depth = strides.findLastIndex((s) => s !== 0);
      facts.push({ depth, varies: (strides[this.#lane] ?? 0) !== 0 });
      this.#cursorOf(expr.kind === "index" ? null : expr.buffer, expr.view);
    }
    this.#facts.set(expr, {
      depth: Math.max(-1, ...facts.map((f) => f.depth)),
      varies: facts.some((f) => f.varies),
    });
  }
}

function operandsOf(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case "call":
      return expr.args;
    case "cast":
      return [expr.arg];
    case "gather":
      return [expr.index];
    default:
      return [];
  }
}

/** Pushes a bound. */
export function push(code: Lanes["code"], bound: Bound): void {
  if (typeof bound === "number") code.const(bound);
  else code.get(bound.local);
}

/** Addresses count bytes, indices count themselves. */
function unit(buffer: number | null): number {
  return buffer === null ? 1 : 4;
}

function sameStrides(a: readonly number[], b: readonly number[]): boolean {
  const rank = Math.max(a.length, b.length);
  for (let i = 0; i < rank; i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return false;
  return true;
}
