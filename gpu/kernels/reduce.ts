/**
 * Reductions: a row by one invocation, or by the lanes of a workgroup that combine through workgroup memory. A row is
 * walked once for each pass; what does not change along it is computed before the walk.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Pass, ReduceKernel, Reduction } from "../../core/plan/kernel.ts";
import { type Shape, sizeOf } from "../../core/shape.ts";
import { Block } from "../block.ts";
import { type Access, accessesOf, fixedFrom, loadsOf } from "../expr.ts";
import type { Width } from "../functions.ts";
import { constant, typeName } from "../scalar.ts";
import type { Schedule } from "../schedule.ts";
import {
  isVector,
  type Section,
  type Shader,
  splitIndex,
  vectorBuffers,
} from "../shader.ts";

// Sums are formed over runs of this many terms first, which keeps their rounding errors small.
const run = 64;

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
  const { shape, over } = kernel;
  const axis = vectorAxis(kernel);
  const grid = [...shape, ...over].map((d, i) => i === axis ? d / 4 : d);
  const terms = grid.slice(shape.length);
  const sharing = axis !== null && axis < shape.length
    ? 1
    : sharedLanes(sizeOf(terms), schedule.reduce.lanes);
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

/** Combines two values. */
type Join = (a: string, b: string, width: Width) => string;

function joiner({ combine, body }: Reduction, shader: Shader): Join {
  return (a, b, width) => {
    if (combine === "sum") return `${a} + ${b}`;
    if (body.dtype !== "f32") return `max(${a}, ${b})`;
    return `${shader.call("maximum", width)}(${a}, ${b})`;
  };
}

/** A reduction on a walk. */
interface Sum {
  /** What its names end in. */
  readonly name: string;
  /** What it reduces. */
  readonly reduction: Reduction;
  /** How. */
  readonly join: Join;
  /** How many terms at once. */
  readonly width: Width;
  /** The name of the term. */
  readonly value: string;
}

/** What one invocation does on a walk. */
interface Walk {
  /** What it adds up. */
  readonly sums: readonly Sum[];
  /** Its first term. */
  readonly first: string;
  /** Distance between its terms. */
  readonly step: number;
  /** Number of terms. */
  readonly count: number;
  /** Statements that give the indices of term `r`. */
  readonly index: string;
  /** Statements that compute and store at it. */
  readonly term: Block;
}

/** Statements that walk over the terms and leave `acc…` of each reduction. */
function walk(
  { sums, first, step, count, index, term }: Walk,
  { outputs }: Pass,
): string {
  const declare = (variable: string): string[] =>
    sums.map(({ name, width, reduction: { combine, body } }) => {
      const none = combine === "sum" ? 0 : -Infinity;
      const start = constant(none, body.dtype, width);
      return `var ${variable}${name}: ${
        typeName(body.dtype, width)
      } = ${start};`;
    });
  const join = (to: string, value: (sum: Sum) => string): string[] =>
    sums.map((sum) => {
      const target = `${to}${sum.name}`;
      return `${target} = ${sum.join(target, value(sum), sum.width)};`;
    });
  term.store(outputs);
  const each = (to: string, from: string, stop: string): string[] => [
    `for (var r = ${from}; r < ${stop}; r += ${step}u) {`,
    index,
    term.take(),
    ...join(to, ({ value }) => value),
    "}",
  ];
  const reach = run * step;
  if (sums.length === 0) return each("", first, `${count}u`).join("\n");
  return [
    ...declare("acc"),
    `for (var start = ${first}; start < ${count}u; start += ${reach}u) {`,
    `let stop = min(start + ${reach}u, ${count}u);`,
    ...declare("part"),
    ...each("part", "start", "stop"),
    ...join("acc", ({ name }) => `part${name}`),
    "}",
  ].join("\n");
}

/** Statements that make `total…` of what the walks of all lanes left. */
function totals(
  { sums, step }: Walk,
  across: boolean,
  shader: Shader,
  isLast: boolean,
): string[] {
  const own = sums.map(({ name, join }) => {
    const acc = `acc${name}`;
    if (!across) return acc;
    const low = join(`${acc}.x`, `${acc}.y`, 1);
    const high = join(`${acc}.z`, `${acc}.w`, 1);
    return join(`(${low})`, `(${high})`, 1);
  });
  if (sums.length === 0) return [];
  if (step === 1) {
    return sums.map(({ name }, i) => `let total${name} = ${own[i]};`);
  }
  const rows = sums.map(({ reduction: { body } }, i) => {
    const row = `row_${body.dtype}_${i}`;
    const type = typeName(body.dtype, 1);
    shader.declare(`var<workgroup> ${row}: array<${type}, ${step}>;`);
    return row;
  });
  const joined = rows.map((row, i) =>
    `${row}[lane] = ${
      sums[i]!.join(`${row}[lane]`, `${row}[lane + width]`, 1)
    };`
  );
  return [
    ...rows.map((row, i) => `${row}[lane] = ${own[i]};`),
    "workgroupBarrier();",
    `for (var width = ${step / 2}u; width > 0u; width /= 2u) {`,
    `if (lane < width) {\n${joined.join("\n")}\n}`,
    "workgroupBarrier();",
    "}",
    ...sums.map(({ name }, i) => `let total${name} = ${rows[i]}[0];`),
    // Before a later walk writes there.
    ...(isLast ? [] : ["workgroupBarrier();"]),
  ];
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
  const accesses = termsOf(kernel);
  const fits = (axis: number): boolean =>
    axis >= 0 && extents[axis]! % 4 === 0 &&
    accesses.some(({ view }) => isVector(view, axis));
  return [extents.length - 1, shape.length - 1].find(fits) ?? null;
}

/** How many lanes share a row of some terms: a power of two, none of them idle for long. */
function sharedLanes(terms: number, most: number): number {
  let lanes = 1;
  while (lanes < most && lanes * 4 <= terms) lanes *= 2;
  return lanes < 16 ? 1 : lanes;
}
