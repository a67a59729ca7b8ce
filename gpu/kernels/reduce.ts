/**
 * Reductions: a row by one invocation, or by the lanes of a workgroup that combine through workgroup memory. A row is
 * walked once for each pass; what does not change along it is computed before the walk.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { ReduceKernel } from "../../core/plan/kernel.ts";
import { type Shape, sizeOf } from "../../core/shape.ts";
import { Block } from "../block.ts";
import {
  type Access,
  accessesOf,
  fixedFrom,
  loadsOf,
  widest,
} from "../expr.ts";
import { mostIterations, type Schedule } from "../schedule.ts";
import {
  isVector,
  type Section,
  type Shader,
  splitIndex,
  vectorBuffers,
} from "../shader.ts";
import { powerOfTwo } from "./tile.ts";
import { joiner, run, totals, type Walk, walk } from "./walk.ts";

/** How the invocations share the work. */
interface Layout {
  /** The axis along which four neighbours are taken at once: a reduced one, or one of the results; or null. */
  readonly axis: number | null;
  /** Extents of the results, in fours along that axis. */
  readonly points: Shape;
  /** Extents of the terms, in fours along that axis. */
  readonly terms: Shape;
  /** Lanes that share a row. */
  readonly sharing: number;
}

function layoutOf(kernel: ReduceKernel, schedule: Schedule): Layout {
  const { shape, over, passes } = kernel;
  const axis = vectorAxis(kernel);
  const grid = [...shape, ...over].map((d, i) => i === axis ? d / 4 : d);
  const terms = grid.slice(shape.length);
  const count = sizeOf(terms);
  const ofResults = axis !== null && axis < shape.length;
  // Runs are iterations as well.
  const iterations = passes.length * (count + 2 * Math.ceil(count / run));
  const sharing = Math.max(
    ofResults ? 1 : sharedLanes(count, schedule.reduce.lanes),
    enoughLanes(iterations / mostIterations, ofResults),
  );
  return { axis, points: grid.slice(0, shape.length), terms, sharing };
}

/** Invocations of a workgroup of a reduction. */
export function reduceLanes(kernel: ReduceKernel, schedule: Schedule): number {
  const { sharing } = layoutOf(kernel, schedule);
  return sharing > 1 ? sharing : schedule.invocations.workgroup;
}

/** Buffers that a reduction takes as vectors. */
export function reduceVectors(kernel: ReduceKernel): Set<number> {
  const axis = vectorAxis(kernel);
  if (axis === null) return new Set();
  const results = accessesOf(kernel.outputs);
  const found = vectorBuffers([...termsOf(kernel), ...results], axis);
  // Results are stored one by one where four terms are read at once.
  if (axis >= kernel.shape.length) {
    results.forEach(({ buffer }) => found.delete(buffer));
  }
  return found;
}

/** The code of a reduction. */
export function reduceSection(
  kernel: ReduceKernel,
  shader: Shader,
  schedule: Schedule,
): Section {
  const { shape, over, passes, outputs } = kernel;
  const rank = shape.length;
  const { axis, points, terms, sharing } = layoutOf(kernel, schedule);
  // Four results at once, or four terms of one.
  const ofResults = axis !== null && axis < rank ? axis : null;
  const index = [...shape, ...over].map((_, i) => `i${i}`);
  const at = index.slice(0, rank);

  const accs: string[] = [];
  const row = new Block(shader, { index: at, lanes: ofResults, accs }, "v");
  const stored = new Set(
    passes.flatMap((pass) => pass.outputs.map(({ buffer }) => buffer)),
  );
  const before = { block: row, isFixed: fixedFrom(rank, stored) };
  const lines = [splitIndex("p", points, at)];
  passes.forEach((pass, number) => {
    const term = new Block(shader, { index, lanes: axis }, "t", before);
    const walked: Walk = {
      sums: pass.reductions.map((reduction, i) => ({
        name: `${accs.length + i}`,
        reduction,
        join: joiner(reduction, shader),
        width: axis === null ? 1 : 4,
        value: term.value(reduction.body),
      })),
      first: sharing === 1 ? "0u" : "lane",
      step: sharing,
      count: sizeOf(terms),
      index: splitIndex("r", terms, index.slice(rank)),
      term,
    };
    const loop = walk(walked, pass);
    const isLast = passes.slice(number + 1).every((p) =>
      p.reductions.length === 0
    );
    const across = axis !== null && ofResults === null;
    lines.push(row.take(), loop, ...totals(walked, across, shader, isLast));
    accs.push(...walked.sums.map(({ name }) => `total${name}`));
  });
  row.store(outputs);
  const results = row.take();

  if (sharing > 1) {
    // Lanes that are ahead must not store what others still read.
    const barrier = passes.at(-1)!.reductions.length === 0
      ? "storageBarrier();"
      : "";
    const body = [
      "let p = group;",
      ...lines,
      ...(outputs.length === 0
        ? []
        : [`${barrier}\nif (lane == 0u) {\n${results}\n}`]),
    ].join("\n");
    return { workgroups: sizeOf(points), lanes: sharing, body };
  }
  const { workgroup } = schedule.invocations;
  const body = [
    `let p = group * ${workgroup}u + lane;`,
    `if (p >= ${sizeOf(points)}u) { return; }`,
    ...lines,
    results,
  ].join("\n");
  const workgroups = Math.ceil(sizeOf(points) / workgroup);
  return { workgroups, lanes: workgroup, body };
}

/** Loads and stores of the passes. */
function termsOf({ passes }: ReduceKernel): Access[] {
  return passes.flatMap(({ reductions, outputs }) => [
    ...loadsOf(reductions.map(({ body }) => body)),
    ...accessesOf(outputs),
  ]);
}

/** The axis along which four neighbours are taken at once: a reduced one or one of the results. */
function vectorAxis(kernel: ReduceKernel): number | null {
  const { shape, over } = kernel;
  const extents = [...shape, ...over];
  const candidates = [extents.length - 1, shape.length - 1];
  const accesses = widest(termsOf(kernel), candidates);
  const fits = (axis: number): boolean =>
    axis >= 0 && extents[axis]! % 4 === 0 &&
    accesses.some(({ view }) => isVector(view, axis));
  return candidates.find(fits) ?? null;
}

/** The power of two of lanes that take so many shares, as far as the memory of a workgroup goes. */
function enoughLanes(shares: number, ofResults: boolean): number {
  return shares <= 1
    ? 1
    : Math.min(powerOfTwo(Math.max(8, shares)), ofResults ? 64 : 256);
}

/** How many lanes share a row of some terms: a power of two, none of them idle for long. */
function sharedLanes(terms: number, most: number): number {
  let lanes = 1;
  while (lanes < most && lanes * 4 <= terms) lanes *= 2;
  return lanes < 16 ? 1 : lanes;
}
