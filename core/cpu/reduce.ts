/**
 * Reductions as WebAssembly.
 *
 * Lanes lie along the innermost reduced axis, with several vectors to hide the latency of an addition, or along the
 * innermost outer axis, with a vector for each four results. A long reduction of one pass becomes one over short runs
 * and one over their results: sums lose less to rounding, and columns are summed in the order of memory.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { viewMapper } from "../plan/expression.ts";
import type {
  Expr,
  Output,
  Pass,
  ReduceKernel,
  Reduction,
  View,
} from "../plan/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../shape.ts";
import { type ArrangedReduce, arrangeReduce } from "./arrange.ts";
import type { Bound } from "./assembler.ts";
import { type Combiner, combinerOf } from "./combiner.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { copiesFor, emitMap, store, storeAll } from "./map.ts";
import { Nest } from "./nest.ts";
import { placesOf } from "./places.ts";
import { type Phase, phasesOf } from "./pointers.ts";
import { type Part, splitLoops } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { workOf } from "./work.ts";

/** Most elements that are combined one after another, by where the lanes lie. */
const RUN = { along: 1024, across: 32 };

/** Most bytes for results of runs. */
const MOST_SCRATCH = 2 ** 26;

/** Most vectors of state: with what else a loop needs they fit the registers. */
const MOST_STATE = 8;

/** Emits a reduction as stages. */
export function emitReduce(stages: StageBuilder, kernel: ReduceKernel): void {
  if (sizeOf(kernel.shape) === 0) return;
  const arranged = arrangeReduce(kernel);
  if (arranged.kind === "map") return emitMap(stages, arranged);
  const parts = inRuns(arranged, stages);
  if (parts) parts.forEach((part) => emitReduce(stages, part));
  else emitPasses(stages, arranged);
}

function emitPasses(stages: StageBuilder, kernel: ArrangedReduce): void {
  const { shape, over, passes, outputs, lane } = kernel;
  const inside = passes.flatMap((pass) => [
    ...pass.reductions.map(({ body }) => body),
    ...pass.outputs.map(({ expr }) => expr),
  ]);
  const work = workOf(sizeOf(shape) * sizeOf(over), inside);
  const stores = [...passes.flatMap((pass) => pass.outputs), ...outputs];
  const views = stores.map(({ view }) => view);
  const split = stages.divide(
    work,
    (division) => splitLoops(shape, lane, views, division),
  );
  stages.add(work, split, (lanes, part) => emitLoops(lanes, kernel, part));
}

function emitLoops(
  lanes: Lanes,
  kernel: ArrangedReduce,
  part: Part | null,
): void {
  const { shape, over, passes, outputs, lane } = kernel;
  const rank = shape.length;
  const walks = passes.map((pass) => {
    const stored = pass.outputs.map(({ expr }) => expr);
    const exprs = [...pass.reductions.map(({ body }) => body), ...stored];
    const combiners = pass.reductions.map((r) => combinerOf(lanes, r));
    const state = combiners.reduce((sum, { start }) => sum + start.length, 0);
    const most = Math.max(1, Math.floor(MOST_STATE / Math.max(1, state)));
    return { ...pass, exprs, combiners, most };
  });
  const regions = walks.map(({ exprs, outputs }) => {
    const places = placesOf(outputs);
    return { exprs, places, within: rank + over.length - 1 };
  });
  const after = {
    exprs: outputs.map(({ expr }) => expr),
    places: placesOf(outputs),
    within: rank - 1,
  };
  const nest = new Nest(lanes, lane, [...regions, after], part, rank - 1);
  const visit = (copies: number) => {
    walks.forEach((walk, i) => {
      const accs = nest.during(i, () => {
        const own = Math.min(walk.most, copiesFor(walk.exprs));
        return emitWalk(nest, kernel, walk, lane < rank ? copies : own);
      });
      nest.accumulate(accs);
    });
    storeAll(nest, outputs, copies);
  };
  nest.enter(() => {
    if (lane >= rank) return nest.loops(shape, 0, () => visit(1));
    const copies = walks.map(({ most, exprs }) =>
      Math.min(most, 2 * copiesFor(exprs))
    );
    nest.loops(
      shape.slice(0, -1),
      0,
      () =>
        nest.across(
          lane,
          shape[lane]!,
          (phase) => visit(phase.copies),
          phasesOf(Math.min(...copies)),
        ),
    );
  });
}

/** A pass, and how its reductions combine. */
interface Walk extends Pass {
  readonly combiners: readonly Combiner[];
}

/** The state of each reduction in one of the vectors side by side, and what was moved out of it for accuracy. */
type Slot = readonly { state: readonly Vec[]; total: Vec | null }[];

/** Emits the loops of a pass; gives the vectors of each accumulator. */
function emitWalk(
  nest: Nest,
  { shape, over, lane }: ArrangedReduce,
  walk: Walk,
  copies: number,
): Vec[][] {
  const { lanes } = nest, { code } = lanes, { combiners } = walk;
  const rank = shape.length, last = over.length - 1;
  const isAlong = lane >= rank;
  const count = isAlong
    ? Math.min(copies, Math.floor(over[last]! / 4))
    : copies;
  const stretch = stretchesOf(over, isAlong);
  const slot = (): Slot =>
    combiners.map(({ start, isExact }) => ({
      state: variables(lanes, start),
      total: stretch && !isExact ? variables(lanes, start)[0]! : null,
    }));
  const slots = Array.from({ length: count }, slot);
  // Elements that do not fill a vector, each in all lanes.
  const isCut = stretch?.axis === last;
  const tail = isAlong && (isCut || over[last]! % 4 > 0) ? slot() : null;
  const all = tail ? [...slots, tail] : slots;
  const phases = phasesOf(count).filter(({ width }) => width === 4 || tail);

  const visit = ({ width, copies }: Phase): void => {
    for (let copy = 0; copy < copies; copy++) {
      const slot = isAlong && width === 1 ? tail! : slots[copy]!;
      nest.isolate(() => {
        slot.forEach(({ state }, i) =>
          accumulate(nest, walk.reductions[i]!, combiners[i]!, state, copy)
        );
        store(nest, walk.outputs, copy);
      });
    }
  };
  const loop = (axis: number, from: Bound, to: Bound): void =>
    nest.loop(
      rank + axis,
      from,
      to,
      axis === last ? visit : () => loops(axis + 1),
      isAlong && axis === last ? phases : undefined,
    );
  const loops = (axis: number): void => {
    if (axis !== stretch?.axis) return loop(axis, 0, over[axis]!);
    code.blocks(
      { from: 0, to: over[axis]! },
      stretch.extent,
      ({ from, to }) => {
        loop(axis, from, to);
        all.forEach((slot) => settle(lanes, combiners, slot));
      },
    );
  };
  loops(0);
  return combiners.map(({ value, combine }, i) => {
    const valueOf = (slot: Slot): Vec => {
      const { state, total } = slot[i]!;
      return total ?? value(state);
    };
    const values = slots.map(valueOf);
    if (!isAlong) return values;
    const folded = count > 0
      ? [lanes.fold(values.reduce(combine), combine)]
      : [];
    return [[...folded, ...tail ? [valueOf(tail)] : []].reduce(combine)];
  });
}

/** The axis of a long walk, and how much of it makes a stretch after which sums start again from 0. */
function stretchesOf(
  over: Shape,
  isAlong: boolean,
): { axis: number; extent: number } | null {
  const size = sizeOf(over);
  // About as many sums in a stretch as there are stretches.
  const wanted = isAlong
    ? Math.max(RUN.along, 16 * Math.ceil(Math.sqrt(size) / 4))
    : Math.max(RUN.across, Math.ceil(Math.sqrt(size)));
  if (size <= wanted) return null;
  let axis = over.length - 1, inner = 1;
  while (inner * over[axis]! < wanted) inner *= over[axis--]!;
  return { axis, extent: Math.max(1, Math.floor(wanted / inner)) };
}

/** Moves the sums of a slot to their totals. */
function settle(
  lanes: Lanes,
  combiners: readonly Combiner[],
  slot: Slot,
): void {
  slot.forEach(({ state, total }, i) => {
    const { start, value, combine } = combiners[i]!;
    if (!total) return;
    lanes.code.scope(() => lanes.assign(total, combine(total, value(state))));
    state.forEach((x, j) => lanes.assign(x, start[j]!));
  });
}

/** Combines the body at the current point into a state. */
function accumulate(
  nest: Nest,
  { combine, body }: Reduction,
  combiner: Combiner,
  state: readonly Vec[],
  copy: number,
): void {
  const { lanes } = nest;
  const factors = combine === "sum" ? factorsOf(body) : null;
  if (factors) {
    const [a, b] = factors.map((e) => nest.value(e, copy));
    lanes.assign(state[0]!, lanes.madd(a!, b!, state[0]!));
  } else {
    const next = combiner.add(state, nest.value(body, copy));
    state.forEach((x, i) => lanes.assign(x, next[i]!));
  }
}

/** The factors of a product of floats. */
function factorsOf(expr: Expr): readonly Expr[] | null {
  if (expr.kind !== "call" || expr.dtype !== "f32") return null;
  const [a, b] = expr.args;
  if (expr.op === "mul") return expr.args;
  const isSquare = expr.op === "pow" && b!.kind === "const" && b!.value === 2;
  return isSquare ? [a!, a!] : null;
}

function variables(lanes: Lanes, values: readonly Vec[]): Vec[] {
  return values.map((value) => {
    const x = lanes.variable();
    lanes.assign(x, value);
    return x;
  });
}

/**
 * A long reduction as kernels: over runs of its longest axis, over what is left of that axis, and over their results,
 * which lie in scratch memory. Null where it is short, or these would take too much.
 */
function inRuns(
  kernel: ArrangedReduce,
  stages: StageBuilder,
): ReduceKernel[] | null {
  const { shape, over, passes, outputs, lane } = kernel;
  const rank = shape.length, isAlong = lane >= rank;
  const [pass] = passes;
  const { reductions } = pass!;
  const isExact = reductions.every((r) =>
    r.combine === "max" || r.body.dtype !== "f32"
  );
  const most = isAlong ? RUN.along : RUN.across;
  if (passes.length > 1 || reductions.length === 0) return null;
  if (sizeOf(over) <= most || isAlong && isExact) return null;
  const longest = over.indexOf(Math.max(...over)), extent = over[longest]!;
  const run = Math.max(1, Math.floor(most * extent / sizeOf(over)));
  const runs = Math.floor(extent / run), rest = extent % run;
  const count = runs + (rest > 0 ? 1 : 0);
  const results = count * sizeOf(shape);
  const bytes = 4 * results * reductions.length;
  if (bytes > MOST_SCRATCH) return null;
  const scratch = stages.common, start = stages.takeCommon(bytes);
  // Results of runs lie so that the reduction over them has its lanes as this one.
  const at = isAlong ? rank : 0;
  const strides = stridesOf(inserted(shape, at, count));
  const offsetOf = (reduction: number) => start / 4 + reduction * results;

  const part = (from: number, length: number, times: number): ReduceKernel => {
    const split = ({ offset, strides }: View): View => {
      const step = strides[rank + longest]!;
      return {
        offset: offset + from * run * step,
        strides: inserted(strides, at, run * step),
      };
    };
    const moved = viewMapper(split);
    const stores = pass!.outputs.map(({ buffer, view, expr }): Output => {
      return { buffer, view: split(view), expr: moved(expr)! };
    });
    return {
      kind: "reduce",
      shape: inserted(shape, at, times),
      over: over.map((d, i) => i === longest ? length : d),
      passes: [{
        reductions: reductions.map((r) => ({ ...r, body: moved(r.body)! })),
        outputs: stores,
      }],
      outputs: reductions.map(({ body: { dtype } }, index) => {
        const offset = offsetOf(index) + from * strides[at]!;
        const view = { offset, strides };
        return { buffer: scratch, view, expr: { kind: "acc", index, dtype } };
      }),
    };
  };
  const partial = reductions.map(({ combine, body }, i): Reduction => {
    const view = {
      offset: offsetOf(i),
      strides: [...strides.filter((_, axis) => axis !== at), strides[at]!],
    };
    const { dtype } = body;
    return { combine, body: { kind: "load", buffer: scratch, view, dtype } };
  });
  const total: ReduceKernel = {
    kind: "reduce",
    shape,
    over: [count],
    passes: [{ reductions: partial, outputs: [] }],
    outputs,
  };
  const parts = [part(0, run, runs)];
  if (rest > 0) parts.push(part(runs, rest, 1));
  return [...parts, total];
}

function inserted(list: Shape, at: number, value: number): number[] {
  return [...list.slice(0, at), value, ...list.slice(at)];
}
