/**
 * Reductions: a row by one invocation, or by the lanes of a workgroup that combine through workgroup memory.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../../core/dtype.ts";
import type { ReduceKernel } from "../../core/plan/kernel.ts";
import { type Shape, sizeOf } from "../../core/shape.ts";
import { Block } from "../block.ts";
import { accessesOf, loadsOf } from "../expr.ts";
import type { Width } from "../functions.ts";
import { constant, typeName } from "../scalar.ts";
import type { Schedule } from "../schedule.ts";
import {
  isVector,
  type Program,
  Shader,
  splitIndex,
  vectorBuffers,
} from "../shader.ts";

// Sums are formed over runs of this many terms first, which keeps their rounding errors small.
const run = 64;

/** The shader of a reduction. */
export function reduceProgram(
  kernel: ReduceKernel,
  dtypes: readonly DType[],
  writable: readonly boolean[],
  schedule: Schedule,
): Program {
  const { shape, over, body, outputs } = kernel;
  const rank = shape.length;
  const lanes = vectorAxis(kernel);
  const grid = [...shape, ...over].map((d, axis) => axis === lanes ? d / 4 : d);
  const [points, terms] = [grid.slice(0, rank), grid.slice(rank)];
  // Four results at once, or four terms of one.
  const resultLanes = lanes !== null && lanes < rank ? lanes : null;

  const shader = new Shader(dtypes, writable, vectors(kernel, lanes));
  const index = grid.map((_, axis) => `i${axis}`);
  const at = index.slice(0, rank);
  const term = new Block(shader, { index, lanes });
  const value = term.value(body);
  const result = new Block(
    shader,
    { index: at, lanes: resultLanes, acc: "total" },
    "v",
  );
  result.store(outputs);

  const join = joiner(kernel, shader);
  const sharing = resultLanes === null
    ? sharedLanes(sizeOf(terms), schedule.reduce.lanes)
    : 1;
  const width = lanes === null ? 1 : 4;
  const loop = `${splitIndex("p", points, at)}
${
    accumulate(kernel, join, width, {
      first: sharing === 1 ? "0u" : "lane",
      step: sharing,
      terms,
      term: `${splitIndex("r", terms, index.slice(rank))}
${term}`,
      value,
    })
  }`;
  const total = width === 4 && resultLanes === null
    ? join(
      `(${join("acc.x", "acc.y", 1)})`,
      `(${join("acc.z", "acc.w", 1)})`,
      1,
    )
    : "acc";

  if (sharing > 1) {
    const type = typeName(body.dtype, 1);
    shader.declare(`var<workgroup> row: array<${type}, ${sharing}>;`);
    return shader.finish(
      sizeOf(points),
      sharing,
      `let p = group;
${loop}
row[lane] = ${total};
workgroupBarrier();
for (var width = ${sharing / 2}u; width > 0u; width /= 2u) {
if (lane < width) { row[lane] = ${join("row[lane]", "row[lane + width]", 1)}; }
workgroupBarrier();
}
if (lane == 0u) {
let total = row[0];
${result}
}`,
    );
  }
  const { workgroup } = schedule.invocations;
  return shader.finish(
    Math.ceil(sizeOf(points) / workgroup),
    workgroup,
    `let p = group * ${workgroup}u + lane;
if (p >= ${sizeOf(points)}u) { return; }
${loop}
let total = ${total};
${result}`,
  );
}

/** Combines two values. */
type Join = (a: string, b: string, width: Width) => string;

function joiner({ combine, body }: ReduceKernel, shader: Shader): Join {
  return (a, b, width) => {
    if (combine === "sum") return `${a} + ${b}`;
    if (body.dtype !== "f32") return `max(${a}, ${b})`;
    return `${shader.call("maximum", width)}(${a}, ${b})`;
  };
}

/** What one invocation adds up. */
interface Terms {
  /** Its first term. */
  readonly first: string;
  /** Distance between its terms. */
  readonly step: number;
  /** Extents of the terms. */
  readonly terms: Shape;
  /** Statements that compute term `r`. */
  readonly term: string;
  /** The name of its value. */
  readonly value: string;
}

/** Statements that combine terms into `acc`. */
function accumulate(
  { combine, body }: ReduceKernel,
  join: Join,
  width: Width,
  { first, step, terms, term, value }: Terms,
): string {
  const none = combine === "sum" ? 0 : -Infinity;
  const start = `${typeName(body.dtype, width)} = ${
    constant(none, body.dtype, width)
  }`;
  const count = sizeOf(terms);
  const reach = run * step;
  return `var acc: ${start};
for (var start = ${first}; start < ${count}u; start += ${reach}u) {
let stop = min(start + ${reach}u, ${count}u);
var part: ${start};
for (var r = start; r < stop; r += ${step}u) {
${term}
part = ${join("part", value, width)};
}
acc = ${join("acc", "part", width)};
}`;
}

/** The axis along which four neighbours are read at once: a reduced one or one of the results. */
function vectorAxis({ shape, over, body }: ReduceKernel): number | null {
  const extents = [...shape, ...over];
  const loads = loadsOf([body]);
  const fits = (axis: number): boolean =>
    axis >= 0 && extents[axis]! % 4 === 0 &&
    loads.some(({ view }) => isVector(view, axis));
  return [extents.length - 1, shape.length - 1].find(fits) ?? null;
}

function vectors(
  { shape, body, outputs }: ReduceKernel,
  lanes: number | null,
): Set<number> {
  if (lanes === null) return new Set();
  const results = accessesOf(outputs);
  const found = vectorBuffers([...loadsOf([body]), ...results], lanes);
  // Results are stored one by one where four terms are read at once.
  if (lanes >= shape.length) results.forEach((r) => found.delete(r.buffer));
  return found;
}

/** How many lanes share a row of some terms: a power of two, none of them idle for long. */
function sharedLanes(terms: number, most: number): number {
  let lanes = 1;
  while (lanes < most && lanes * 4 <= terms) lanes *= 2;
  return lanes < 16 ? 1 : lanes;
}
