/**
 * What must hold of every plan.
 *
 * @module
 */

import { assert, assertEquals, fail } from "@std/assert";
import type { Limits } from "../../core/backend.ts";
import type {
  Kernel,
  Output,
  Place,
  Plan,
  Step,
  View,
} from "../../core/plan/kernel.ts";
import { buffersOf, visitExpr } from "../../core/plan/expression.ts";
import { walkSteps } from "../../core/plan/loops.ts";
import { sizeOf } from "./values.ts";

/** Asserts that a plan keeps the limits of a backend and the rules of core/plan/kernel.ts. */
export function checkPlan(plan: Plan, limits: Limits): void {
  for (const { kernel, buffers, dtypes } of plan.steps) {
    assert(
      buffers.length <= limits.buffersPerKernel,
      `a kernel of ${buffers.length} buffers`,
    );
    assertEquals(buffers.length, dtypes.length);
    const distinct = new Set(buffers.map((place) => JSON.stringify(place)));
    assertEquals(distinct.size, buffers.length, "a buffer stands twice");
    checkKernel(kernel);
  }
  for (const bytes of plan.pages) assert(bytes <= limits.bytesPerBuffer);
  for (const { page, offset, bytes } of slotsOf(plan)) {
    assert(offset % limits.alignment === 0, "a slot is not aligned");
    assert(offset + bytes <= plan.pages[page]!, "a slot leaves its page");
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

/** A kernel stores where nothing else of it reads, or a map to what it reads at the same point. */
function checkKernel(kernel: Kernel): void {
  if (kernel.kind === "scatter") {
    const read = [...buffersOf(kernel.index), ...buffersOf(kernel.source)];
    assert(!read.includes(kernel.buffer), "a scatter reads what it adds to");
    return;
  }
  const written = kernel.outputs.map(({ buffer }) => buffer);
  assertEquals(new Set(written).size, written.length);
  for (const output of kernel.outputs) {
    if (kernel.kind === "map") {
      for (const other of kernel.outputs) checkInPlace(kernel, output, other);
      continue;
    }
    const read = kernel.kind === "matmul"
      ? [kernel.a.buffer, kernel.b.buffer]
      : [...buffersOf(kernel.body)];
    assert(!read.includes(output.buffer), "a result overwrites an operand");
  }
}

function checkInPlace(kernel: Kernel, { expr }: Output, into: Output): void {
  const same = (view: View): boolean =>
    view.offset === into.view.offset &&
    kernel.shape.every((d, i) =>
      d <= 1 || view.strides[i] === into.view.strides[i]
    );
  visitExpr(expr, (e) => {
    if (e.kind !== "load" && e.kind !== "gather") return;
    if (e.buffer !== into.buffer) return;
    assert(e.kind === "load" && same(e.view), "a map overwrites what it reads");
  });
}

function writes({ kernel, buffers }: Step): Place[] {
  const numbers = kernel.kind === "scatter"
    ? [kernel.buffer]
    : kernel.outputs.map(({ buffer }) => buffer);
  return numbers.map((i) => buffers[i]!);
}

function reads({ kernel, buffers }: Step): Place[] {
  const numbers = new Set<number>();
  const exprs = kernel.kind === "scatter"
    ? [kernel.index, kernel.source]
    : kernel.outputs.map(({ expr }) => expr);
  if (kernel.kind === "reduce") exprs.push(kernel.body);
  for (const expr of exprs) buffersOf(expr).forEach((i) => numbers.add(i));
  if (kernel.kind === "matmul") {
    numbers.add(kernel.a.buffer).add(kernel.b.buffer);
  }
  return [...numbers].map((i) => buffers[i]!);
}

/** When a slot holds a value: from its first store to its last use. */
interface Life {
  readonly slot: Slot;
  readonly first: number;
  last: number;
  wasRead: boolean;
}

/** Whether a step stores as many elements as a slot holds. */
function fills({ kernel }: Step, slot: Slot, { alignment }: Limits): boolean {
  if (kernel.kind === "scatter") return false;
  return Math.ceil(sizeOf(kernel.shape) * 4 / alignment) * alignment >=
    slot.bytes;
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

/** No two values that are live at one step share a byte of the arena. */
function checkOverlaps(plan: Plan, limits: Limits): void {
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
