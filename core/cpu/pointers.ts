/**
 * The pointers of a loop nest: affine functions of the loop indices in locals, and the loads and stores through them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import type { DType } from "../dtype.ts";
import type { View } from "../plan/kernel.ts";
import type { Bound, Local, Pointer } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { i16x8, i32, i32x4, v128 } from "./opcodes.ts";

/** Lanes of a vector. Along the lane axis, vectors begin at multiples of it. */
export const QUAD = 4;

/** A view of a buffer; without a buffer, the value of the view itself. */
export interface Site {
  /** Number of the buffer, which is the parameter that holds its address. */
  readonly buffer: number | null;
  /** Where in it. */
  readonly view: View;
}

/** How many points of the lane axis an iteration takes: `copies` vectors of `width` lanes. */
export interface Phase {
  /** 4, or 1 for a point alone. */
  readonly width: 1 | typeof QUAD;
  /** Vectors side by side. */
  readonly copies: number;
}

/** Phases that cover any extent, with `copies` vectors at a time where there are enough points. */
export function phasesOf(copies: number): Phase[] {
  const rest: Phase[] = [{ width: 4, copies: 1 }, { width: 1, copies: 1 }];
  return copies > 1 ? [{ width: 4, copies }, ...rest] : rest;
}

/** A site's address at the current indices, or the value of its view; sites that differ in their offsets share it. */
interface Cursor extends Site {
  readonly users: Set<unknown>;
  /** Bytes of an element; 1 for the value of a view. */
  readonly bytes: number;
  local: Pointer;
}

/** All pointers of a nest whose lanes lie along one axis. */
export class Pointers {
  /** The phase of the lane axis that code is emitted for. */
  phase: Phase = { width: 1, copies: 1 };
  #lanes: Lanes;
  #lane: number;
  #pointers: Cursor[] = [];

  /** No pointers yet. */
  constructor(lanes: Lanes, lane: number) {
    this.#lanes = lanes;
    this.#lane = lane;
  }

  /** Adds a site of a dtype for a user; all must be added before `start`. */
  add({ buffer, view }: Site, dtype: DType, user: unknown): void {
    const pointer = this.#find({ buffer, view });
    if (pointer) pointer.users.add(user);
    else {
      const bytes = buffer === null ? 1 : bytesPerElement(dtype);
      const users = new Set([user]);
      const local = -1 as Pointer;
      this.#pointers.push({ buffer, view, bytes, users, local });
    }
  }

  /** Sets the pointers to index 0 of all axes. */
  start(): void {
    const { code } = this.#lanes;
    for (const pointer of this.#pointers) {
      const { buffer, bytes, view } = pointer;
      pointer.local = code.pointer();
      if (buffer === null) code.address(view.offset);
      else code.get(buffer as Pointer).const(bytes * view.offset).plus();
      code.set(pointer.local);
    }
  }

  /**
   * Runs `body` with copies of the pointers of a user, or of all, that start at an index of an axis and that `advance`
   * moves along it.
   */
  along(
    axis: number,
    from: Bound,
    user: unknown,
    body: (advance: (steps: number) => void) => void,
  ): void {
    const { code } = this.#lanes;
    const moving = this.#pointers.filter((p) =>
      p.view.strides[axis] && (user === null || p.users.has(user))
    );
    const outside = moving.map((p) => p.local);
    const strideOf = ({ bytes, view }: Cursor) => bytes * view.strides[axis]!;
    code.scope(() => {
      for (const pointer of moving) {
        code.get(pointer.local);
        if (from !== 0) {
          code.push(from).const(strideOf(pointer)).op(i32.mul).plus();
        }
        pointer.local = code.pointer();
        code.set(pointer.local);
      }
      body((steps) => {
        for (const p of moving) code.increment(p.local, steps * strideOf(p));
      });
    });
    moving.forEach((pointer, i) => pointer.local = outside[i]!);
  }

  /** A new local with the address of a site. */
  address(site: Site): Pointer {
    const { code } = this.#lanes;
    const pointer = this.#get(site);
    const elements = site.view.offset - pointer.view.offset;
    const local = code.pointer();
    code.get(pointer.local).const(pointer.bytes * elements).plus();
    code.set(local);
    return local;
  }

  /**
   * Loads the vector of a copy, of halves their bits. `offsets` are locals with bytes to add to the address: none, one,
   * or one a lane.
   */
  load(site: Site, copy: number, offsets: readonly Local[] = []): Vec {
    const { code } = this.#lanes;
    const { stride, bytes, at } = this.#reach(site, copy, offsets);
    const alike = offsets.length < 2, isHalf = bytes === 2;
    if (this.phase.width === 1 || alike && stride === 0) {
      const immediate = at(0);
      if (isHalf) code.memory(i32.load16U, immediate).op(i32x4.splat);
      else code.memory(v128.load32Splat, immediate);
    } else if (alike && stride === 1) {
      code.memory(isHalf ? v128.load16x4U : v128.load, at(0));
    } else if (isHalf) {
      const immediates = [3, 2, 1, 0].map(at);
      code.memory(i32.load16U, immediates[3]!).op(i32x4.splat);
      for (const lane of [1, 2, 3]) {
        code.memory(v128.load16Lane, immediates[3 - lane]!, 2 * lane);
      }
    } else {
      const immediates = [3, 2, 1, 0].map(at);
      code.memory(v128.load32Zero, immediates[3]!);
      for (const lane of [1, 2, 3]) {
        code.memory(v128.load32Lane, immediates[3 - lane]!, lane);
      }
    }
    return this.#lanes.pop();
  }

  /** Stores the vector of a copy. */
  store(
    site: Site,
    value: Vec,
    copy: number,
    offsets: readonly Local[] = [],
  ): void {
    const { code } = this.#lanes;
    const { width } = this.phase;
    const { stride, bytes, at } = this.#reach(site, copy, offsets);
    const isHalf = bytes === 2;
    if (width === 4 && stride === 1 && offsets.length < 2) {
      const immediate = at(0);
      code.get(value.local);
      if (isHalf) {
        code.get(value.local).op(i16x8.narrowU);
        code.memory(v128.store64Lane, immediate, 0);
      } else code.memory(v128.store, immediate);
      return;
    }
    for (let lane = 0; lane < width; lane++) {
      const immediate = at(lane);
      code.get(value.local);
      if (isHalf) code.memory(v128.store16Lane, immediate, 2 * lane);
      else code.memory(v128.store32Lane, immediate, lane);
    }
  }

  /** The integer values of a view in the vector of a copy. */
  position(view: View, copy: number): Vec {
    const site = { buffer: null, view };
    this.#lanes.code.get(this.#get(site).local).wrap().op(i32x4.splat);
    const base = this.#lanes.pop();
    const { start, stride } = this.#reach(site, copy, []);
    const isAlone = this.phase.width === 1;
    const steps = [0, 1, 2, 3].map((i) => start + (isAlone ? 0 : i * stride));
    if (steps.every((step) => step === 0)) return base;
    return this.#lanes.i32(i32x4.add, base, this.#lanes.integer(...steps));
  }

  /** Pushes the integer value of a view in a lane of a copy. */
  push(view: View, copy: number, lane = 0): void {
    const site = { buffer: null, view };
    const { start, stride } = this.#reach(site, copy, []);
    this.#lanes.code.get(this.#get(site).local).wrap();
    const steps = start + lane * stride;
    if (steps !== 0) this.#lanes.code.const(steps).op(i32.add);
  }

  /** Whether a view has one value in all lanes of a vector. */
  isAlike({ strides }: View): boolean {
    return this.phase.width === 1 || (strides[this.#lane] ?? 0) === 0;
  }

  /** Whether the lanes of a vector lie one after another from a multiple of their number on. */
  isQuad({ offset, strides }: View): boolean {
    return this.phase.width === QUAD && strides[this.#lane] === 1 &&
      offset % QUAD === 0 &&
      strides.every((s, axis) => axis === this.#lane || s % QUAD === 0);
  }

  /** Elements from a pointer to a copy; `at` pushes the address of a lane and gives what is left as an immediate. */
  #reach(
    site: Site,
    copy: number,
    offsets: readonly Local[],
  ): {
    start: number;
    stride: number;
    bytes: number;
    at: (lane: number) => number;
  } {
    const { code } = this.#lanes;
    const pointer = this.#get(site), { bytes } = pointer;
    const stride = site.view.strides[this.#lane] ?? 0;
    const start = site.view.offset - pointer.view.offset +
      copy * this.phase.width * stride;
    const at = (lane: number) => {
      const elements = start + lane * stride;
      const offset = offsets[offsets.length < 2 ? 0 : lane];
      code.get(pointer.local);
      if (offset !== undefined) code.get(offset).plus();
      if (elements >= 0) return bytes * elements;
      code.const(bytes * elements).plus();
      return 0;
    };
    return { start, stride, bytes, at };
  }

  #get(site: Site): Cursor {
    return this.#find(site)!;
  }

  #find({ buffer, view }: Site): Cursor | undefined {
    return this.#pointers.find((p) =>
      p.buffer === buffer && p.view.offset <= view.offset &&
      sameStrides(p.view.strides, view.strides)
    );
  }
}

function sameStrides(a: readonly number[], b: readonly number[]): boolean {
  const rank = Math.max(a.length, b.length);
  for (let i = 0; i < rank; i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return false;
  return true;
}
