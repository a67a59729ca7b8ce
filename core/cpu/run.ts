/**
 * The function `run(table, thread, threads)` of a program, which each thread calls; `table` and what is in it are
 * addresses in lines, so that words reach beyond 4 GiB.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Place, Plan } from "../plan/kernel.ts";
import { walkSteps } from "../plan/loops.ts";
import {
  type AddressBits,
  type FunctionBuilder,
  type FunctionCode,
  functionOf,
  type Local,
} from "./assembler.ts";
import { LINE } from "./memory.ts";
import { i32, i64 } from "./opcodes.ts";
import type { Levels, StageCall } from "./schedule.ts";
import type { Stage } from "./stages.ts";

/** What a module has beside `run`. */
export interface Functions {
  /** The number of a stage's function. */
  readonly numberOf: (stage: Stage) => number;
  /** That of the barrier; null where there is one thread. */
  readonly barrier: number | null;
  /** Bytes of scratch memory that a thread has for itself. */
  readonly own: number;
}

/** Who has worked since all threads last met: nobody, one thread, or several. */
type Busy = "none" | "several" | number;

/** Number of words in the table of a plan before those of packs. */
export function tableSize(plan: Plan): number {
  return plan.inputs + plan.outputs.length + plan.pages.length + 2;
}

/** Bytes from the scratch memory of a thread to that of the next. */
export function ownStride(own: number): number {
  return Math.ceil(own / LINE) * LINE;
}

/** The function, and the nanoseconds of what several threads share. */
export function emitRun(
  plan: Plan,
  steps: readonly Levels[],
  { numberOf, barrier, own }: Functions,
  bits: AddressBits,
): { code: FunctionCode; divided: number } {
  const { code: run, parameters } = functionOf(bits, "iii");
  const [tableLine, thread, threads] = parameters;
  const words = tableSize(plan), outputs = plan.inputs;
  const [table, common, ownAddress] = run.pointers(3);
  const pages = run.pointers(plan.pages.length);
  const word = (index: number) => run.get(table).memory(i32.load, 4 * index);
  fromLines(run.get(tableLine)).set(table);
  pages.forEach((page, i) =>
    fromLines(word(outputs + plan.outputs.length + i)).set(page)
  );
  fromLines(word(words - 2)).set(common);
  word(words - 1).get(thread).const(ownStride(own) / LINE);
  fromLines(run.op(i32.mul).op(i32.add)).set(ownAddress);
  let busy: Busy = "none", divided = 0, times = 1;
  const meet = (): void => {
    if (barrier !== null && busy !== "none") {
      run.get(thread, threads).call(barrier);
    }
    busy = "none";
  };
  const push = (place: Place) => {
    switch (place.kind) {
      case "input":
        return fromLines(word(place.index));
      case "output":
        return fromLines(word(outputs + place.index));
      case "arena":
        return run.get(pages[place.page]!).const(place.offset).plus();
    }
  };
  const call = (
    { stage, buffers, scratch, owner, pack }: StageCall,
  ): void => {
    const emit = () => {
      buffers.forEach(push);
      run.get(common);
      if (scratch > 0) run.const(scratch).plus();
      run.get(ownAddress);
      if (pack === null) run.address(0);
      else if (pack !== undefined) fromLines(word(words + pack));
      if (stage.isSplit) run.get(thread, threads);
      run.call(numberOf(stage));
    };
    if (barrier === null || owner === null) emit();
    else isThread(run, owner, thread, threads).if(emit);
  };
  const step = (index: number): void => {
    for (const level of steps[index]!.levels) {
      if (level.length === 0) continue;
      const next = busyWith(level);
      if (busy !== next || next === "several") meet();
      busy = next;
      level.forEach(call);
    }
    divided += times * steps[index]!.divided;
  };
  const alone = loopOwners(plan, steps);
  walkSteps(plan, step, (trips, body) => {
    const owner = alone.shift()!;
    const left = run.local();
    run.const(trips).set(left);
    times *= trips;
    if (busy !== owner) meet();
    busy = owner;
    run.doWhile(() => {
      body();
      if (owner === "none") meet();
    }, () => run.get(left).const(1).op(i32.sub).tee(left));
    times /= trips;
  });
  // Whoever returns sees all results.
  busy = "several";
  meet();
  return { code: run.finish(), divided };
}

/** For each loop in order the one thread that runs all of it, or "none". */
function loopOwners(plan: Plan, steps: readonly Levels[]): (number | "none")[] {
  const loops: Set<Busy>[] = [], open: Set<Busy>[] = [];
  walkSteps(plan, (index) => {
    for (const level of steps[index]!.levels) {
      if (level.length === 0) continue;
      for (const busy of open) busy.add(busyWith(level));
    }
  }, (_, body) => {
    const busy = new Set<Busy>();
    loops.push(busy);
    open.push(busy);
    body();
    open.pop();
  });
  return loops.map((busy) => {
    const [owner] = busy;
    return busy.size === 1 && typeof owner === "number" ? owner : "none";
  });
}

function busyWith(level: readonly StageCall[]): Busy {
  const [first, ...rest] = level.map(({ owner }) => owner);
  return first === null || rest.some((owner) => owner !== first)
    ? "several"
    : first!;
}

/** Pushes whether this is the thread with that number, or would be the only one. */
function isThread(
  run: FunctionBuilder,
  owner: number,
  thread: Local,
  threads: Local,
): FunctionBuilder {
  if (owner === 0) return run.get(thread).op(i32.eqz);
  return run.const(owner).get(threads).op(i32.remU).get(thread).op(i32.eq);
}

/** Makes the number of a line on top of the stack its address. */
function fromLines(run: FunctionBuilder): FunctionBuilder {
  const shift = Math.log2(LINE);
  return run.bits === 64
    ? run.op(i64.extendU).long(shift).op(i64.shl)
    : run.const(shift).op(i32.shl);
}
