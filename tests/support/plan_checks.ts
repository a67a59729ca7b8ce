/**
 * What must hold of every plan.
 *
 * @module
 */

import { assert, assertEquals, fail } from "@std/assert";
import { bytesPerElement, type Limits } from "../../core/backend.ts";
import type {
  Expr,
  Kernel,
  Output,
  Place,
  Plan,
  SimpleKernel,
  Step,
  View,
} from "../../core/plan/kernel.ts";
import {
  buffersOf,
  exprsOf,
  outputsOf,
  visitExpr,
} from "../../core/plan/expression.ts";
import { walkSteps } from "../../core/plan/loops.ts";
import { fewestBindings } from "../../core/plan/reach.ts";
import { sizeOf } from "./values.ts";

/** Asserts that a plan keeps the limits of a backend and the rules of core/plan/kernel.ts. */
export function checkPlan(plan: Plan, limits: Limits): void {
  for (const { kernel, buffers, dtypes } of plan.steps) {
    assert(
      buffers.length <=
        (kernel.kind === "group"
          ? limits.buffersPerLaunch
          : limits.buffersPerKernel),
      `a kernel of ${buffers.length} buffers`,
    );
    for (const part of partsOf(kernel)) {
      const bindings = fewestBindings(part, limits);
      assert(
        bindings <= limits.buffersPerKernel,
        `a kernel of ${bindings} bindings`,
      );
    }
    assertEquals(buffers.length, dtypes.length);
    const distinct = new Set(buffers.map((place) => JSON.stringify(place)));
    assertEquals(distinct.size, buffers.length, "a buffer stands twice");
    checkKernel(kernel);
  }
  for (const bytes of plan.pages) assert(bytes <= limits.bytesPerBuffer);
  for (const { page, offset, bytes } of slotsOf(plan)) {
    assert(offset % limits.alignment === 0, "a slot is not aligned");
    assert(offset + bytes <= plan.pages[page]!, "a slot leaves its page");
    const [first, last] = [offset, offset + bytes - 1].map((byte) =>
      Math.floor(byte / limits.bytesPerBinding)
    );
    const isWhole = first === last || offset % limits.bytesPerBinding === 0;
    assert(isWhole, "a slot begins in one binding and ends in another");
  }
  const taken = plan.outputs.flatMap((o) => o.kind === "input" ? o.index : []);
  const gone = [...taken, ...plan.freed];
  assertEquals(new Set(gone).size, gone.length, "an input is given away twice");
  checkOverlaps(plan, limits);
}

type Slot = Place & { readonly kind: "arena" };

function slotsOf({ steps }: Plan): Slot[] {
  return steps.flatMap(({ buffers }) =>
    buffers.filter((place) => place.kind === "arena")
  );
}

/** A kernel stores where nothing else of it reads, or to what it reads at the same point. */
function checkKernel(kernel: Kernel): void {
  if (kernel.kind === "group") {
    for (const part of kernel.parts) {
      checkKernel(part);
      for (const other of kernel.parts) {
        const used = [...numbersRead(other), ...numbersWritten(other)];
        const clash = numbersWritten(part).some((b) => used.includes(b));
        assert(part === other || !clash, "parts of a group depend on another");
      }
    }
    return;
  }
  if (kernel.kind === "scatter") {
    const read = numbersRead(kernel);
    assert(!read.has(kernel.buffer), "a scatter reads what it adds to");
    return;
  }
  if (kernel.kind === "fused") {
    const read = numbersRead(kernel);
    const clash = numbersWritten(kernel).some((number) => read.has(number));
    assert(!clash, "a fused kernel overwrites an operand");
    return;
  }
  const stores = kernel.kind === "reduce"
    ? [kernel.outputs, ...kernel.passes.map((p) => p.outputs)]
    : [kernel.outputs];
  for (const outputs of stores) {
    const written = outputs.map(({ buffer }) => buffer);
    assertEquals(new Set(written).size, written.length);
  }
  if (kernel.kind === "map") {
    for (const output of kernel.outputs) {
      checkInPlace(kernel.shape, exprsOf(kernel), output);
    }
    return;
  }
  const rows = kernel.outputs.map(({ expr }) => expr);
  const before = kernel.kind === "reduce"
    ? numbersRead({ ...kernel, outputs: [] })
    : new Set([kernel.a.buffer, kernel.b.buffer]);
  for (const output of kernel.outputs) {
    assert(!before.has(output.buffer), "a result overwrites an operand");
    checkInPlace(kernel.shape, rows, output);
  }
  if (kernel.kind === "matmul") return;
  const walks = exprsOf({ ...kernel, outputs: [] });
  for (const output of kernel.passes.flatMap((p) => p.outputs)) {
    const isLate = rows.some((e) => buffersOf(e).has(output.buffer));
    assert(!isLate, "a result reads what a walk has overwritten");
    checkInPlace([...kernel.shape, ...kernel.over], walks, output);
  }
}

function checkInPlace(
  shape: readonly number[],
  exprs: readonly Expr[],
  into: Output,
): void {
  const same = (view: View): boolean =>
    view.offset === into.view.offset &&
    shape.every((d, i) => d <= 1 || view.strides[i] === into.view.strides[i]);
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if (e.kind !== "load" && e.kind !== "gather") return;
      if (e.buffer !== into.buffer) return;
      const isPointwise = e.kind === "load" && same(e.view);
      assert(isPointwise, "a kernel overwrites what it reads elsewhere");
    });
  }
}

function partsOf(kernel: Kernel): readonly SimpleKernel[] {
  return kernel.kind === "group" ? kernel.parts : [kernel];
}

function numbersWritten(kernel: Kernel): number[] {
  return partsOf(kernel).flatMap((part) => {
    if (part.kind === "scatter") return [part.buffer];
    const stores = part.kind === "fused" ? part.results : outputsOf(part);
    return stores.flatMap((store) => store ? [store.buffer] : []);
  });
}

/** Buffers that a kernel reads, but for what an earlier pass of it has stored. */
function numbersRead(kernel: Kernel): Set<number> {
  const numbers = new Set<number>(), own = new Set<number>();
  const add = (exprs: readonly Expr[]): void => {
    for (const e of exprs) {
      buffersOf(e).forEach((i) => own.has(i) || numbers.add(i));
    }
  };
  for (const part of partsOf(kernel)) {
    if (part.kind === "matmul") numbers.add(part.a.buffer).add(part.b.buffer);
    if (part.kind === "fused") {
      part.operands.forEach(({ buffer }) => numbers.add(buffer));
    }
    if (part.kind !== "reduce") {
      add(exprsOf(part));
      continue;
    }
    for (const pass of part.passes) {
      add(exprsOf({ ...part, passes: [pass], outputs: [] }));
      for (const { buffer } of pass.outputs) own.add(buffer);
    }
    add(exprsOf({ ...part, passes: [] }));
    own.clear();
  }
  return numbers;
}

function writes({ kernel, buffers }: Step): Place[] {
  return numbersWritten(kernel).map((i) => buffers[i]!);
}

function reads({ kernel, buffers }: Step): Place[] {
  return [...numbersRead(kernel)].map((i) => buffers[i]!);
}

/** When a slot holds a value: from its first store to its last use. */
interface Life {
  readonly slot: Slot;
  readonly first: number;
  last: number;
  wasRead: boolean;
}

/** Whether a step stores as many elements as a slot holds. */
function fills(
  { kernel, buffers, dtypes }: Step,
  slot: Slot,
  { alignment }: Pick<Limits, "alignment">,
): boolean {
  const number = buffers.indexOf(slot);
  return partsOf(kernel).some((part) => {
    if (part.kind === "scatter") return false;
    // Its results are values of their own.
    if (part.kind === "fused") return numbersWritten(part).includes(number);
    const isRow = part.outputs.some(({ buffer }) => buffer === number);
    if (!isRow && !numbersWritten(part).includes(number)) return false;
    const over = part.kind === "reduce" && !isRow ? part.over : [];
    const bytes = bytesPerElement(dtypes[number]!) *
      sizeOf([...part.shape, ...over]);
    return Math.ceil(bytes / alignment) * alignment >= slot.bytes;
  });
}

/** The steps in order, those of loops twice: what a trip needs of the one before it shows in two. */
function twoTrips(plan: Plan): Step[] {
  const steps: Step[] = [];
  walkSteps(plan, (i) => steps.push(plan.steps[i]!), (_, body) => {
    body();
    body();
  });
  return steps;
}

/** Values in the arena over time. */
function livesOf(plan: Plan, limits: Pick<Limits, "alignment">): Life[] {
  const lives: Life[] = [];
  const current = new Map<string, Life>();
  twoTrips(plan).forEach((step, i) => {
    for (const place of reads(step)) {
      if (place.kind !== "arena") continue;
      const life = current.get(JSON.stringify(place)) ??
        fail(`step ${i} reads a slot that nothing has written`);
      life.last = i;
      life.wasRead = true;
    }
    for (const place of writes(step)) {
      if (place.kind !== "arena") continue;
      const key = JSON.stringify(place);
      const life = current.get(key);
      // Several kernels may store parts of one value; a store after a read, or of the whole, begins another.
      if (life && !life.wasRead && !fills(step, place, limits)) {
        life.last = i;
        continue;
      }
      const next = { slot: place, first: i, last: i, wasRead: false };
      current.set(key, next);
      lives.push(next);
    }
  });
  return lives;
}

/** Bytes of the values in the arena that are live at the step where these are most. */
export function widestBytes(plan: Plan): number {
  const lives = livesOf(plan, { alignment: 4 });
  const atStep = twoTrips(plan).map((_, i) => {
    const live = lives.filter(({ first, last }) => first <= i && i <= last);
    const slots = new Map(live.map(({ slot }) => [JSON.stringify(slot), slot]));
    return [...slots.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  });
  return Math.max(0, ...atStep);
}

/** No two values that are live at one step share a byte of the arena. */
function checkOverlaps(plan: Plan, limits: Limits): void {
  const lives = livesOf(plan, limits);
  for (const a of lives) {
    for (const b of lives) {
      if (a === b || a.slot.page !== b.slot.page) continue;
      const apart = a.last < b.first || b.last < a.first;
      const clear = a.slot.offset + a.slot.bytes <= b.slot.offset ||
        b.slot.offset + b.slot.bytes <= a.slot.offset;
      // In place: the same slot, and the one begins in the step that reads the other last.
      const inPlace = JSON.stringify(a.slot) === JSON.stringify(b.slot);
      assert(
        apart || clear || inPlace,
        `slots ${JSON.stringify(a.slot)} of steps ${a.first}-${a.last} and ${
          JSON.stringify(b.slot)
        } of steps ${b.first}-${b.last} overlap`,
      );
    }
  }
}
