/**
 * Loop nests over an index space, and the expressions of kernels in them.
 *
 * One axis is the lane axis: along it, four points are computed at once, and several such vectors side by side. What
 * does not depend on a loop is computed outside of it. A point that stands alone is computed as a vector of four equal
 * lanes, so there is no scalar form of anything.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import type { DType } from "../dtype.ts";
import { visitExpr } from "../plan/expression.ts";
import { type Expr, operandsOf } from "../plan/kernel.ts";
import type { Bound, Local, Pointer } from "./assembler.ts";
import type { Part } from "./split.ts";
import { call, cast, constant } from "./calls.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { i32, i32x4, v128 } from "./opcodes.ts";
import type { Gather, Place, TypedPlace } from "./places.ts";
import { type Phase, Pointers } from "./pointers.ts";
import { repeated, unpacked, unpackedAhead } from "./unpack.ts";
import { exps } from "./vector_math.ts";

/** Expressions that are evaluated within the loop over axis `within`. */
export interface Region {
  /** The expressions. */
  readonly exprs: readonly Expr[];
  /** Views that are needed beside those of the expressions. */
  readonly places: readonly (TypedPlace | Gather)[];
  /** The innermost loop around them. */
  readonly within: number;
}

/** What is known of an expression before code is emitted. */
interface Facts {
  /** The innermost axis that it depends on; -1 for none. */
  readonly depth: number;
  /** Whether it differs along the lane axis. */
  readonly varies: boolean;
  /** How many accumulators must be known. */
  readonly needs: number;
}

const CONSTANT: Facts = { depth: -1, varies: false, needs: 0 };

/** A region with every expression in it, operands first. */
interface StudiedRegion {
  readonly inside: Set<Expr>;
  readonly gathers: Gather[];
  readonly within: number;
}

/** What has been computed for an expression: the vectors side by side, and the address offset of a gather. */
interface Computed {
  readonly vectors: Vec[];
  offset?: Local;
}

/** A loop nest under construction. Loops must be opened in the order of their axes. */
export class Nest {
  /** Where code goes. */
  readonly lanes: Lanes;
  #lane: number;
  #outer: number;
  #part: Part | null;
  #pointers: Pointers;
  #regions: readonly StudiedRegion[];
  /** The region that loops are for; null where they are for all. */
  #active: StudiedRegion | null = null;
  /** The values of `acc`, by number and copy. */
  #accumulators: (readonly Vec[])[] = [];
  #facts = new Map<Expr, Facts>();
  #scopes: Map<Expr, Computed>[] = [];

  /** A nest whose lane axis is `lane`; accumulators belong to the loop over axis `outer`. */
  constructor(
    lanes: Lanes,
    lane: number,
    regions: readonly Region[],
    part: Part | null,
    outer = lane,
  ) {
    this.lanes = lanes;
    this.#lane = lane;
    this.#outer = outer;
    this.#part = part;
    this.#pointers = new Pointers(lanes, lane);
    this.#regions = regions.map((region) => this.#studied(region));
  }

  /** Runs `body`, whose loops are for one region only. */
  during<T>(region: number, body: () => T): T {
    this.#active = this.#regions[region]!;
    const result = body();
    this.#active = null;
    return result;
  }

  /** Makes the next accumulators known, and computes what depends on no more than them and the outer loops. */
  accumulate(values: readonly (readonly Vec[])[]): void {
    this.#accumulators.push(...values);
    this.#hoist(this.#outer);
  }

  /** Emits the nest: `body` opens its loops. Parameter i of the function is the address of buffer i. */
  enter(body: () => void): void {
    this.isolate(() => {
      this.#pointers.start();
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
    this.#pointers.along(axis, from, this.#active, (advance) => {
      const left = code.local();
      code.push(to).push(from).op(i32.sub).set(left);
      let rest = known ? to - from : Infinity;
      for (const phase of phases) {
        const step = phase.width * phase.copies;
        const trips = Math.floor(rest / step);
        if (trips === 0) continue;
        const more = () => code.get(left).const(step).op(i32.geS);
        const trip = () => {
          this.#within(axis, phase, body);
          advance(step);
          code.increment(left, -step);
        };
        if (!known) code.while(more, trip);
        else if (trips > 1) code.doWhile(trip, more);
        else trip();
        rest -= trips * step;
      }
    });
  }

  /** A loop over all of an axis, or over this thread's part of it. */
  across(
    axis: number,
    extent: number,
    body: (phase: Phase) => void,
    phases?: readonly Phase[],
  ): void {
    const part = this.#part?.axis === axis ? this.#part : null;
    this.loop(axis, part?.from ?? 0, part?.to ?? extent, body, phases);
  }

  /** Plain loops over the axes from `first` on, as many as there are extents. */
  loops(extents: readonly number[], first: number, body: () => void): void {
    const [extent, ...inner] = extents;
    if (extent === undefined) return body();
    this.across(first, extent, () => this.loops(inner, first + 1, body));
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
    if (expr.kind === "acc") {
      const vectors = this.#accumulators[expr.index]!;
      return vectors[copy] ?? vectors[0]!;
    }
    const slot = this.#factsOf(expr).varies ? copy : 0;
    for (const scope of this.#scopes) {
      const known = scope.get(expr)?.vectors[slot];
      if (known) return known;
    }
    return this.#computed(expr).vectors[slot] = this.#compute(expr, slot);
  }

  /** A new local with the address of a place at the current indices. */
  address(place: Place): Pointer {
    return this.#pointers.address(place);
  }

  /** Stores a vector. */
  store(place: Place, value: Vec, dtype: DType, copy = 0): void {
    const isBool = dtype === "bool";
    const words = isBool ? this.lanes.i32(v128.and, value, 1) : value;
    this.#pointers.store(place, words, copy);
  }

  /** Replaces the elements that an index picks. */
  update(target: Gather, change: (old: Vec) => Vec): void {
    const offsets = this.#offsetsOf(target, 0);
    const value = change(this.#pointers.load(target, 0, offsets));
    this.#pointers.store(target, value, 0, offsets);
  }

  #within(axis: number, phase: Phase, body: (phase: Phase) => void): void {
    const outside = this.#pointers.phase;
    if (axis === this.#lane) this.#pointers.phase = phase;
    if (axis === this.#outer) this.#accumulators = [];
    this.isolate(() => {
      this.#hoist(axis);
      body(this.#pointers.phase);
    });
    this.#pointers.phase = outside;
  }

  /**
   * Computes what depends on no loop inside of `axis`; the vectors side by side in an innermost loop come one by one.
   */
  #hoist(axis: number): void {
    const isHere = ({ depth, needs }: Facts) =>
      depth === axis && needs <= this.#accumulators.length;
    const regions = this.#active ? [this.#active] : this.#regions;
    for (const { inside, gathers, within } of regions) {
      for (const expr of inside) {
        const facts = this.#factsOf(expr), { varies } = facts;
        if (!isHere(facts)) continue;
        if (within < axis) continue;
        if (within === axis && varies) {
          const ahead = this.#ahead(expr);
          if (ahead.length > 0) this.#computed(expr).vectors.push(...ahead);
          continue;
        }
        const copies = varies ? this.#pointers.phase.copies : 1;
        for (let copy = 0; copy < copies; copy++) this.value(expr, copy);
      }
      for (const gather of gathers) {
        const facts = this.#factsOf(gather.index);
        if (isHere(facts) && !facts.varies) this.#offsetOf(gather);
      }
    }
  }

  /** Vectors side by side of what takes less together than one by one; none of anything else. */
  #ahead(expr: Expr): readonly Vec[] {
    if (expr.kind === "unpack") {
      return unpackedAhead(this.lanes, this.#pointers, expr);
    }
    if (expr.kind !== "call" || expr.op !== "exp") return [];
    const { copies } = this.#pointers.phase;
    const powers = Array.from(
      { length: copies },
      (_, copy) => this.value(expr.args[0]!, copy),
    );
    return exps(this.lanes, powers);
  }

  #compute(expr: Exclude<Expr, { kind: "const" | "acc" }>, copy: number): Vec {
    const { lanes } = this;
    const value = (operand: Expr) => this.value(operand, copy);
    switch (expr.kind) {
      case "load":
      case "gather": {
        const isGather = expr.kind === "gather";
        const offsets = isGather ? this.#offsetsOf(expr, copy) : [];
        const words = this.#pointers.load(expr, copy, offsets);
        return expr.dtype === "bool" ? lanes.i32(i32x4.ne, words, 0) : words;
      }
      case "repeat":
        return repeated(lanes, this.#pointers, expr, copy);
      case "unpack":
        return unpacked(lanes, this.#pointers, expr, copy);
      case "index": {
        const position = this.#pointers.position(expr.view, copy);
        return cast(lanes, position, "i32", expr.dtype);
      }
      case "cast":
        return cast(lanes, value(expr.arg), expr.arg.dtype, expr.dtype);
      case "call":
        return call(lanes, expr, expr.args.map(value));
    }
  }

  /** The distances in bytes that a gather's index stands for: one, or one a lane. */
  #offsetsOf(gather: Gather, copy: number): Local[] {
    if (!this.#factsOf(gather.index).varies) return [this.#offsetOf(gather)];
    const bytes = this.#bytesOf(gather, copy);
    const { width } = this.#pointers.phase;
    return Array.from(
      { length: width },
      (_, lane) => this.#lane32(bytes, lane),
    );
  }

  /** The distance where it is the same in all lanes. */
  #offsetOf(gather: Gather): Local {
    for (const scope of this.#scopes) {
      const known = scope.get(gather)?.offset;
      if (known !== undefined) return known;
    }
    const bytes = this.#bytesOf(gather, 0);
    return this.#computed(gather).offset = this.#lane32(bytes, 0);
  }

  #bytesOf({ index, stride, size, dtype }: Gather, copy: number): Vec {
    const { lanes } = this;
    const below = lanes.i32(i32x4.minS, this.value(index, copy), size - 1);
    const step = stride * bytesPerElement(dtype);
    return lanes.i32(i32x4.mul, lanes.i32(i32x4.maxS, below, 0), step);
  }

  #lane32(x: Vec, lane: number): Local {
    const { code } = this.lanes;
    this.lanes.extract(x, lane);
    const local = code.local();
    code.set(local);
    return local;
  }

  /** What is computed for an expression in the innermost scope. */
  #computed(expr: Expr): Computed {
    const scope = this.#scopes.at(-1)!;
    let computed = scope.get(expr);
    if (!computed) scope.set(expr, computed = { vectors: [] });
    return computed;
  }

  #factsOf(expr: Expr): Facts {
    return this.#facts.get(expr) ?? CONSTANT;
  }

  /** Collects the facts and pointers of a region. */
  #studied({ exprs, places, within }: Region): StudiedRegion {
    const region: StudiedRegion = { inside: new Set(), gathers: [], within };
    for (const root of exprs) {
      visitExpr(root, (e) => this.#study(e, region), region.inside);
    }
    for (const place of places) {
      this.#pointers.add(place, place.dtype, region);
      if ("index" in place) region.gathers.push(place);
    }
    return region;
  }

  /** Collects facts, operands first, and pointers. */
  #study(expr: Expr, region: StudiedRegion): void {
    if (expr.kind === "const") return;
    const facts = operandsOf(expr).map((operand) => this.#factsOf(operand));
    if (expr.kind === "acc") {
      const varies = this.#lane <= this.#outer;
      facts.push({ depth: this.#outer, varies, needs: expr.index + 1 });
    }
    if (expr.kind === "gather") region.gathers.push(expr);
    if ("view" in expr) {
      const { view } = expr;
      const isPlain = expr.kind === "load" || expr.kind === "gather";
      const buffer = isPlain ? expr.buffer : null;
      this.#pointers.add({ buffer, view }, expr.dtype, region);
      const varies = (view.strides[this.#lane] ?? 0) !== 0;
      const depth = view.strides.findLastIndex((s) => s !== 0);
      facts.push({ depth, varies, needs: 0 });
    }
    this.#facts.set(expr, {
      depth: Math.max(-1, ...facts.map((f) => f.depth)),
      varies: facts.some((f) => f.varies),
      needs: Math.max(0, ...facts.map((f) => f.needs)),
    });
  }
}
