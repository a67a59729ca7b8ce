/**
 * Walks of a reduction: loops over its terms, and what the lanes that share them make of their results.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Pass, Reduction } from "../../core/plan/kernel.ts";
import type { Block } from "../block.ts";
import type { Width } from "../functions.ts";
import { constant, typeName } from "../scalar.ts";
import type { Shader } from "../shader.ts";

/** Sums are formed over runs of this many terms first, which keeps their rounding errors small. */
export const run = 64;

/** Combines two values. */
export type Join = (a: string, b: string, width: Width) => string;

/** How a reduction combines. */
export function joiner({ combine, body }: Reduction, shader: Shader): Join {
  return (a, b, width) => {
    if (combine === "sum") return `${a} + ${b}`;
    if (body.dtype !== "f32") return `max(${a}, ${b})`;
    return `${shader.call("maximum", width)}(${a}, ${b})`;
  };
}

/** A reduction on a walk. */
export interface Sum {
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
export interface Walk {
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
export function walk(
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
export function totals(
  { sums, step }: Walk,
  across: boolean,
  shader: Shader,
  isLast: boolean,
): string[] {
  const widths = sums.map(({ width }): Width => across ? 1 : width);
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
    const row = `row_${body.dtype}_${widths[i]}_${i}`;
    const type = typeName(body.dtype, widths[i]!);
    shader.declare(`var<workgroup> ${row}: array<${type}, ${step}>;`);
    return row;
  });
  const joined = rows.map((row, i) =>
    `${row}[lane] = ${
      sums[i]!.join(`${row}[lane]`, `${row}[lane + width]`, widths[i]!)
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
