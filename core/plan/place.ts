/**
 * Placement: every value of a program gets a place that no other value needs at the same time.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement, type Limits } from "../backend.ts";
import { checkBuffer } from "../budget.ts";
import { type Shape, sizeOf } from "../shape.ts";
import {
  buffersOfMatrix,
  exprsOf,
  outputsOf,
  visitExpr,
} from "./expression.ts";
import type {
  Expr,
  Kernel,
  Loop,
  MatmulKernel,
  OutputSource,
  Place,
  SimpleKernel,
} from "./kernel.ts";
import type { Value } from "./lowered.ts";
import { isWhole } from "./reach.ts";
import { sameOver } from "./view.ts";

/** Places of all values, and what follows from them. */
export interface Placement {
  /** Place of each value. */
  readonly places: readonly Place[];
  /** Where each output comes from. */
  readonly outputs: readonly OutputSource[];
  /** Bytes of each arena page. */
  readonly pages: readonly number[];
}

/** A program whose values have no places yet. */
export interface Unplaced {
  /** All buffers. */
  readonly values: readonly Value[];
  /** The work, in order. */
  readonly kernels: readonly Kernel[];
  /** Ranges of kernels that repeat. */
  readonly loops: readonly Loop[];
  /** The value of each output. */
  readonly outputs: readonly number[];
}

/** When a value is written first and read last, in steps; halves are between them. */
interface Life {
  first: number;
  last: number;
}

/** Gives each value a place: dying values of the same size are overwritten in place, others share the arena. */
export function place(
  lowered: Unplaced,
  inputs: number,
  donated: readonly boolean[],
  limits: Limits,
): Placement {
  const { values, kernels } = lowered;
  const lives = livesOf(lowered);
  const places = new Array<Place | undefined>(values.length);
  for (let i = 0; i < inputs; i++) places[i] = { kind: "input", index: i };
  const outputs: OutputSource[] = lowered.outputs.map((id, index) => {
    if (id < inputs) return { kind: "input", index: id };
    places[id] = { kind: "output", index };
    const { size, dtype } = values[id]!;
    return { kind: "new", size, dtype };
  });
  const taken = new Set(
    outputs.flatMap((o) => o.kind === "input" ? [o.index] : []),
  );
  const isFree = (input: number): boolean =>
    donated[input] === true && !taken.has(input);

  const arena = new Arena(limits);
  kernels.forEach((kernel, step) => {
    const born = writtenBy(kernel).filter((id) => lives[id]!.first === step);
    const inherited = new Set<number>();
    for (const id of born) {
      const current = places[id];
      // A donated input that is changed where it lies.
      if (current?.kind === "input") continue;
      const inPlace = overwritable(kernel, id, values)
        .filter((x) => lives[x]!.last === step);
      if (current?.kind === "output") {
        const candidates = [
          ...inPlace,
          ...deadInputs(inputs, values, id, (x) => lives[x]!.last < step),
        ];
        const input = candidates.find((x) => x < inputs && isFree(x));
        if (input === undefined) continue;
        taken.add(input);
        places[id] = { kind: "input", index: input };
        outputs[current.index] = { kind: "input", index: input };
      } else {
        const over = inPlace.find((x) =>
          places[x]?.kind === "arena" && !inherited.has(x)
        );
        places[id] = over === undefined
          ? arena.take(values[id]!)
          : arena.inherit(places[over] as Place & { kind: "arena" });
        if (over !== undefined) inherited.add(over);
      }
    }
    lives.forEach(({ last }, id) => {
      const at = places[id];
      if (Math.floor(last) === step && at?.kind === "arena") arena.give(at);
    });
  });
  return { places: places as Place[], outputs, pages: arena.pages() };
}

function deadInputs(
  inputs: number,
  values: readonly Value[],
  id: number,
  isDead: (input: number) => boolean,
): number[] {
  const { size, dtype } = values[id]!;
  const found: number[] = [];
  for (let i = 0; i < inputs; i++) {
    const alike = values[i]!.size === size && values[i]!.dtype === dtype;
    if (alike && isDead(i)) found.push(i);
  }
  return found;
}

function livesOf({ values, kernels, loops, outputs }: Unplaced): Life[] {
  const lives = values.map((): Life => ({ first: -1, last: -1 }));
  kernels.forEach((kernel, step) => {
    for (const id of writtenBy(kernel)) {
      if (lives[id]!.first < 0) lives[id]!.first = step;
      lives[id]!.last = step;
    }
    for (const id of readBy(kernel)) lives[id]!.last = step;
  });
  // What comes from before a loop is needed at every trip: nothing in the loop may overwrite it.
  for (const life of lives) {
    for (const { first, end } of loops) {
      const isUsed = life.first < first && life.last >= first;
      if (isUsed && life.last < end) life.last = end - 0.5;
    }
  }
  for (const id of outputs) lives[id]!.last = Infinity;
  return lives;
}

function partsOf(kernel: Kernel): readonly SimpleKernel[] {
  return kernel.kind === "group" ? kernel.parts : [kernel];
}

/** Values that a kernel stores to, each once. */
export function writtenBy(kernel: Kernel): number[] {
  const written = partsOf(kernel).flatMap((part) => {
    if (part.kind === "scatter") return [part.buffer];
    const stores = part.kind === "fused" ? part.results : outputsOf(part);
    return stores.flatMap((store) => store ? [store.buffer] : []);
  });
  return [...new Set(written)];
}

/** Values that a kernel reads, but for what it has stored itself in an earlier pass. */
export function readBy(kernel: Kernel): Set<number> {
  const read = new Set<number>();
  for (const part of partsOf(kernel)) {
    if (part.kind === "matmul") {
      operandsRead(part).forEach((id) => read.add(id));
    }
    if (part.kind === "fused") part.operands.forEach((x) => read.add(x.buffer));
    if (part.kind !== "reduce") {
      loadsOf(exprsOf(part)).forEach((id) => read.add(id));
      continue;
    }
    const own = new Set<number>();
    const add = (ids: Set<number>) =>
      ids.forEach((id) => own.has(id) || read.add(id));
    for (const pass of part.passes) {
      add(loadsOf(exprsOf({ ...part, passes: [pass], outputs: [] })));
      for (const { buffer } of pass.outputs) own.add(buffer);
    }
    add(loadsOf(exprsOf({ ...part, passes: [] })));
  }
  return read;
}

function operandsRead({ a, b }: MatmulKernel): number[] {
  return [...buffersOfMatrix(a), ...buffersOfMatrix(b)];
}

function loadsOf(exprs: readonly Expr[]): Set<number> {
  const loads = new Set<number>();
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if ("buffer" in e) loads.add(e.buffer);
    }, seen);
  }
  return loads;
}

/** Values that an output of a kernel may overwrite: those of its kind that are read only where it is stored. */
export function overwritable(
  kernel: Kernel,
  id: number,
  values: readonly Value[],
): number[] {
  const parts = partsOf(kernel);
  const part = parts.find((p) => writtenBy(p).includes(id))!;
  if (part.kind === "scatter" || part.kind === "fused") return [];
  const { size, dtype } = values[id]!;
  const { space, before, late } = readsAround(part, id);
  const store = outputsOf(part).find(({ buffer }) => buffer === id)!;
  if (sizeOf(space) !== size) return [];
  const elsewhere = new Set(loadsOf(late));
  for (const other of parts) {
    if (other !== part) readBy(other).forEach((x) => elsewhere.add(x));
  }
  if (part.kind === "matmul") {
    operandsRead(part).forEach((id) => elsewhere.add(id));
  }
  const fits = new Set<number>();
  const seen = new Set<Expr>();
  for (const expr of before) {
    visitExpr(expr, (e) => {
      if (!("buffer" in e)) return;
      const alike = e.kind === "load" &&
        sameOver(e.view, store.view, space) &&
        values[e.buffer]!.size === size && values[e.buffer]!.dtype === dtype;
      (alike ? fits : elsewhere).add(e.buffer);
    }, seen);
  }
  return [...fits].filter((buffer) => buffer !== id && !elsewhere.has(buffer));
}

/** What a kernel reads around the store of a value. */
interface Reads {
  /** The loops of the store. */
  readonly space: Shape;
  /** Expressions that read at each point before the store there. */
  readonly before: readonly Expr[];
  /** Expressions that read when other points have been stored. */
  readonly late: readonly Expr[];
}

/** In a reduction the walks up to the first that stores a value come before; or all of them, and what rows store is. */
function readsAround(
  kernel: Exclude<SimpleKernel, { kind: "scatter" | "fused" }>,
  id: number,
): Reads {
  if (kernel.kind !== "reduce") {
    return { space: kernel.shape, before: exprsOf(kernel), late: [] };
  }
  const { shape, over, passes, outputs } = kernel;
  const first = passes.findIndex((pass) =>
    pass.outputs.some(({ buffer }) => buffer === id)
  );
  const walks = (from: number, to: number): readonly Expr[] =>
    exprsOf({ ...kernel, passes: passes.slice(from, to), outputs: [] });
  const rows = outputs.map(({ expr }) => expr);
  if (first < 0) {
    return { space: shape, before: rows, late: walks(0, passes.length) };
  }
  return {
    space: [...shape, ...over],
    before: walks(0, first + 1),
    late: [...walks(first + 1, passes.length), ...rows],
  };
}

/** Slots in pages, each taken where the smallest hole fits. */
class Arena {
  readonly #limits: Limits;
  /** Holes of each page, by offset; the last goes to the end of what was ever used. */
  readonly #holes: { offset: number; bytes: number }[][] = [];
  readonly #ends: number[] = [];
  /** How many values share a slot, by place. */
  readonly #sharers = new Map<string, number>();

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  take(value: Value): Place & { kind: "arena" } {
    const { alignment, bytesPerBuffer, bytesPerBinding } = this.#limits;
    const needed = bytesPerElement(value.dtype) * value.size;
    const bytes = Math.max(1, Math.ceil(needed / alignment)) * alignment;
    checkBuffer(value, needed, bytesPerBuffer);
    let best: { page: number; hole: number } | null = null;
    this.#holes.forEach((holes, page) =>
      holes.forEach((h, hole) => {
        const least = best
          ? this.#holes[best.page]![best.hole]!.bytes
          : Infinity;
        const fits = h.bytes >= bytes &&
          isWhole(h.offset, bytes, bytesPerBinding);
        if (fits && h.bytes < least) best = { page, hole };
      })
    );
    const at = best ? this.#cut(best, bytes) : this.#grow(bytes);
    this.#sharers.set(keyOf(at), 1);
    return at;
  }

  /** The place of a dying value, for the one that overwrites it. */
  inherit(at: Place & { kind: "arena" }): Place & { kind: "arena" } {
    this.#sharers.set(keyOf(at), this.#sharers.get(keyOf(at))! + 1);
    return at;
  }

  give(at: Place & { kind: "arena" }): void {
    const left = this.#sharers.get(keyOf(at))! - 1;
    this.#sharers.set(keyOf(at), left);
    if (left > 0) return;
    const holes = this.#holes[at.page]!;
    holes.push({ offset: at.offset, bytes: at.bytes });
    holes.sort((a, b) => a.offset - b.offset);
    for (let i = holes.length - 1; i > 0; i--) {
      const [a, b] = [holes[i - 1]!, holes[i]!];
      if (a.offset + a.bytes !== b.offset) continue;
      a.bytes += b.bytes;
      holes.splice(i, 1);
    }
  }

  pages(): number[] {
    return this.#ends;
  }

  #cut(
    at: { page: number; hole: number },
    bytes: number,
  ): Place & { kind: "arena" } {
    const holes = this.#holes[at.page]!;
    const hole = holes[at.hole]!;
    const { offset } = hole;
    if (hole.bytes === bytes) holes.splice(at.hole, 1);
    else {holes.splice(at.hole, 1, {
        offset: offset + bytes,
        bytes: hole.bytes - bytes,
      });}
    return { kind: "arena", page: at.page, offset, bytes };
  }

  /** Takes bytes at the end of the last page, together with a hole there, or of a new one. */
  #grow(bytes: number): Place & { kind: "arena" } {
    let page = this.#ends.length - 1;
    const end = this.#ends[page];
    const holes = this.#holes[page];
    const tail = holes?.at(-1);
    const isAtEnd = tail && end !== undefined &&
      tail.offset + tail.bytes === end;
    const offset = isAtEnd ? tail.offset : end;
    // What is longer than a binding has a page of its own at first.
    const { bytesPerBuffer, bytesPerBinding } = this.#limits;
    const most = Math.min(bytesPerBuffer, bytesPerBinding);
    if (offset === undefined || offset + bytes > most) {
      page = this.#ends.push(bytes) - 1;
      this.#holes.push([]);
      return { kind: "arena", page, offset: 0, bytes };
    }
    if (isAtEnd) holes!.pop();
    this.#ends[page] = offset + bytes;
    return { kind: "arena", page, offset, bytes };
  }
}

function keyOf({ page, offset }: Place & { kind: "arena" }): string {
  return `${page}:${offset}`;
}
