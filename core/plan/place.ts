/**
 * Placement: every value of a program gets a place that no other value needs at the same time.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Limits } from "../backend.ts";
import { DeviceError } from "../errors.ts";
import { sizeOf } from "../shape.ts";
import { visitExpr } from "./expression.ts";
import type { Expr, Kernel, OutputSource, Place } from "./kernel.ts";
import type { Lowered, Value } from "./lower.ts";
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

/** When a value is written first and read last, in steps; halves are between them. */
interface Life {
  first: number;
  last: number;
}

/** Gives each value a place: dying values of the same size are overwritten in place, others share the arena. */
export function place(
  lowered: Lowered,
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
  const isFree = (input: number, step: number): boolean =>
    donated[input] === true && !taken.has(input) && lives[input]!.last <= step;

  const arena = new Arena(limits);
  kernels.forEach((kernel, step) => {
    const born = writtenBy(kernel).filter((id) => lives[id]!.first === step);
    for (const id of born) {
      const current = places[id];
      const inPlace = overwritable(kernel, id, values)
        .filter((x) => lives[x]!.last === step);
      if (current?.kind === "output") {
        const candidates = [
          ...inPlace,
          ...deadInputs(inputs, values, id, (x) => lives[x]!.last < step),
        ];
        const input = candidates.find((x) => x < inputs && isFree(x, step));
        if (input === undefined) continue;
        taken.add(input);
        places[id] = { kind: "input", index: input };
        outputs[current.index] = { kind: "input", index: input };
      } else {
        const over = inPlace.find((x) => places[x]?.kind === "arena");
        const bytes = values[id]!.size * 4;
        places[id] = over === undefined
          ? arena.take(bytes)
          : arena.inherit(places[over] as Place & { kind: "arena" });
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

function livesOf({ values, kernels, loops, outputs }: Lowered): Life[] {
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

/** Values that a kernel stores to. */
export function writtenBy(kernel: Kernel): number[] {
  if (kernel.kind === "scatter") return [kernel.buffer];
  return kernel.outputs.map(({ buffer }) => buffer);
}

/** Values that a kernel reads. */
export function readBy(kernel: Kernel): Set<number> {
  const read = new Set<number>();
  const visit = (expr: Expr): void =>
    visitExpr(expr, (e) => {
      if (e.kind === "load" || e.kind === "gather") read.add(e.buffer);
    });
  if (kernel.kind === "scatter") {
    visit(kernel.index);
    visit(kernel.source);
    return read;
  }
  for (const { expr } of kernel.outputs) visit(expr);
  if (kernel.kind === "reduce") visit(kernel.body);
  if (kernel.kind === "matmul") read.add(kernel.a.buffer).add(kernel.b.buffer);
  return read;
}

/** Values that an output of a kernel may overwrite: read only where the output is stored. */
function overwritable(
  kernel: Kernel,
  id: number,
  values: readonly Value[],
): number[] {
  if (kernel.kind !== "map" || kernel.outputs.length !== 1) return [];
  const [{ view, expr }] = kernel.outputs as [typeof kernel.outputs[0]];
  const { size, dtype } = values[id]!;
  if (sizeOf(kernel.shape) !== size) return [];
  const fits = new Map<number, boolean>();
  visitExpr(expr, (e) => {
    if (e.kind !== "load" && e.kind !== "gather") return;
    const alike = e.kind === "load" && sameOver(e.view, view, kernel.shape) &&
      values[e.buffer]!.size === size && values[e.buffer]!.dtype === dtype;
    fits.set(e.buffer, (fits.get(e.buffer) ?? true) && alike);
  });
  return [...fits].flatMap(([buffer, fit]) => fit ? [buffer] : []);
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

  take(size: number): Place & { kind: "arena" } {
    const { alignment, bytesPerBuffer } = this.#limits;
    const bytes = Math.max(1, Math.ceil(size / alignment)) * alignment;
    if (bytes > bytesPerBuffer) {
      throw new DeviceError(
        `Cannot place a tensor of ${size} bytes: the device takes ${bytesPerBuffer} bytes in one buffer`,
      );
    }
    let best: { page: number; hole: number } | null = null;
    this.#holes.forEach((holes, page) =>
      holes.forEach((h, hole) => {
        const least = best
          ? this.#holes[best.page]![best.hole]!.bytes
          : Infinity;
        if (h.bytes >= bytes && h.bytes < least) best = { page, hole };
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
    if (offset === undefined || offset + bytes > this.#limits.bytesPerBuffer) {
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
