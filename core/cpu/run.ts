/**
 * The function `run(table, thread, threads)` of a program, which each thread calls.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Place, Plan } from "../plan/kernel.ts";
import { walkSteps } from "../plan/loops.ts";
import { FunctionBuilder, type FunctionCode } from "./assembler.ts";
import { LINE } from "./memory.ts";
import { i32 } from "./opcodes.ts";
import type { Levels, StageCall } from "./schedule.ts";
import type { Stage } from "./stages.ts";

const TABLE = 0, THREAD = 1, THREADS = 2;

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

/** Number of words in the table of a plan. */
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
): { code: FunctionCode; divided: number } {
  const run = new FunctionBuilder(3);
  const words = tableSize(plan);
  const [common, ownAddress] = run.locals(2);
  run.get(TABLE).memory(i32.load, 4 * (words - 2)).set(common);
  run.get(TABLE).memory(i32.load, 4 * (words - 1));
  run.get(THREAD).const(ownStride(own)).op(i32.mul).op(i32.add);
  run.set(ownAddress);
  let busy: Busy = "none", divided = 0, times = 1;
  const meet = (): void => {
    if (barrier !== null && busy !== "none") {
      run.get(THREAD, THREADS).call(barrier);
    }
    busy = "none";
  };
  const call = ({ stage, buffers, scratch, owner }: StageCall): void => {
    const emit = () => {
      for (const place of buffers) pushAddress(run, place, plan);
      run.get(common);
      if (scratch > 0) run.const(scratch).op(i32.add);
      run.get(ownAddress);
      if (stage.isSplit) run.get(THREAD, THREADS);
      run.call(numberOf(stage));
    };
    if (barrier === null || owner === null) emit();
    else isThread(run, owner).if(emit);
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
function isThread(run: FunctionBuilder, owner: number): FunctionBuilder {
  if (owner === 0) return run.get(THREAD).op(i32.eqz);
  return run.const(owner).get(THREADS).op(i32.remU).get(THREAD).op(i32.eq);
}

function pushAddress(run: FunctionBuilder, place: Place, plan: Plan): void {
  const outputs = plan.inputs, pages = outputs + plan.outputs.length;
  run.get(TABLE);
  switch (place.kind) {
    case "input":
      run.memory(i32.load, 4 * place.index);
      break;
    case "output":
      run.memory(i32.load, 4 * (outputs + place.index));
      break;
    case "arena":
      run.memory(i32.load, 4 * (pages + place.page));
      run.const(place.offset).op(i32.add);
  }
}
