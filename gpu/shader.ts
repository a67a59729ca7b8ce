/**
 * Shaders under construction, and the addresses in them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import { isHalf } from "../core/half.ts";
import type { Matrix, View } from "../core/plan/kernel.ts";
import type { Shape } from "../core/shape.ts";
import type { Access } from "./expr.ts";
import { type FunctionName, functionTexts, type Width } from "./functions.ts";
import { type HalfBuffer, halfElement, halfFunctions } from "./halves.ts";
import { convert, typeName } from "./scalar.ts";

/** A compute shader, and what to run it on. */
export interface Program {
  /** WGSL text, all sizes baked in. */
  readonly code: string;
  /** The buffer of the kernel at each binding. */
  readonly buffers: readonly number[];
  /** Number of workgroups. */
  readonly workgroups: number;
}

/** What the workgroups of one kernel do. */
export interface Section {
  /** Number of workgroups. */
  readonly workgroups: number;
  /** Invocations of each. */
  readonly lanes: number;
  /** Code that sees `group`, the number of the workgroup, and `lane`, the number of the invocation in it. */
  readonly body: string;
}

/** The most workgroups on one axis of a dispatch that every device allows. */
export const maxWorkgroups = 65535;

/** Whether neighbours along `axis` stand at multiples of four elements, four in a row. */
export function isVector(view: View | null, axis: number): boolean {
  return view !== null && view.strides[axis] === 1 && view.offset % 4 === 0 &&
    view.strides.every((stride, i) => i === axis || stride % 4 === 0);
}

/** Buffers all of whose accesses are aligned vectors along an axis. */
export function vectorBuffers(
  accesses: readonly Access[],
  axis: number,
): Set<number> {
  const vectors = new Set(accesses.map(({ buffer }) => buffer));
  for (const { buffer, view } of accesses) {
    if (!isVector(view, axis)) vectors.delete(buffer);
  }
  return vectors;
}

/** A shader under construction: its buffers and functions. */
export class Shader {
  readonly #bindings: number[] = [];
  /** Buffers of halves that are stored to. */
  readonly #stored = new Set<number>();
  readonly #functions = {
    1: new Set<FunctionName>(),
    4: new Set<FunctionName>(),
  };
  readonly #texts = new Set<string>();

  /** Buffers in `vectors` are declared as arrays of vectors of four. */
  constructor(
    readonly dtypes: readonly DType[],
    readonly writable: readonly boolean[],
    readonly vectors: ReadonlySet<number>,
  ) {}

  /** The name of a buffer of the kernel. */
  buffer(buffer: number): string {
    if (!this.#bindings.includes(buffer)) this.#bindings.push(buffer);
    return `b${buffer}`;
  }

  /** The element of a buffer at an address, or four neighbours of one in `vectors`; halves as bits. */
  load(buffer: number, address: string): string {
    const name = this.buffer(buffer);
    return isHalf(this.dtypes[buffer])
      ? `load_${name}(${address})`
      : `${name}[${address}]`;
  }

  /** Stores likewise. */
  store(buffer: number, address: string, value: string): string {
    const name = this.buffer(buffer);
    if (!isHalf(this.dtypes[buffer])) return `${name}[${address}] = ${value};`;
    this.#stored.add(buffer);
    return `store_${name}(${address}, ${value});`;
  }

  /** An operand of a product likewise, as floats. */
  operand({ buffer, dtype }: Matrix, address: string): string {
    const width = this.vectors.has(buffer) ? 4 : 1;
    return convert(
      this.load(buffer, address),
      dtype,
      "f32",
      width,
      (name) => this.call(name, width),
    );
  }

  /** The name of a library function at a width. */
  call(name: FunctionName, width: Width): string {
    this.#functions[width].add(name);
    return `${name}_${width}`;
  }

  /** Adds a declaration at module scope, once. */
  declare(text: string): void {
    this.#texts.add(text);
  }

  /** The whole program: sections with equally many lanes, whose workgroups follow one another. */
  finish(sections: readonly Section[]): Program {
    const workgroups = sections.reduce((sum, s) => sum + s.workgroups, 0);
    const [x, y] = dispatchSize(workgroups);
    invariant(y <= maxWorkgroups, `${workgroups} workgroups are too many`);
    const declarations = this.#bindings.map((buffer, binding) => {
      const access = this.writable[buffer] ? "read_write" : "read";
      const dtype = this.dtypes[buffer]!;
      const width = this.vectors.has(buffer) ? 4 : 1;
      const element = isHalf(dtype)
        ? halfElement(this.#half(buffer))
        : typeName(dtype === "bool" ? "u32" : dtype, width);
      return `@group(0) @binding(${binding}) var<storage, ${access}> b${buffer}: array<${element}>;`;
    });
    const halves = this.#bindings.filter((b) => isHalf(this.dtypes[b]))
      .map((b) => halfFunctions(this.buffer(b), this.#half(b)));
    const group = y === 1 ? "id.x" : `id.y * ${x}u + id.x`;
    const code = [
      ...declarations,
      "fn word(bits: u32) -> u32 { return bits; }",
      ...functionTexts(this.#functions[1], 1),
      ...functionTexts(this.#functions[4], 4),
      ...halves,
      ...this.#texts,
      `@compute @workgroup_size(${sections[0]!.lanes})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
let group = ${group};`,
      ...(y === 1 ? [] : [`if (group >= ${workgroups}u) { return; }`]),
      chain(sections),
      "}",
    ].join("\n");
    return { code, buffers: this.#bindings, workgroups };
  }

  #half(buffer: number): HalfBuffer {
    const isVector = this.vectors.has(buffer);
    return { isVector, isStored: this.#stored.has(buffer) };
  }
}

/** Each section for its share of the workgroups. The choice depends on nothing else, so that barriers are allowed. */
function chain([section, ...rest]: readonly Section[]): string {
  const { workgroups, body } = section!;
  if (rest.length === 0) return body;
  return `if (group < ${workgroups}u) {
${body}
} else {
let after = group - ${workgroups}u;
{
let group = after;
${chain(rest)}
}
}`;
}

/** Numbers of workgroups on the two axes of a dispatch. */
export function dispatchSize(workgroups: number): [x: number, y: number] {
  const x = Math.min(workgroups, maxWorkgroups);
  return [x, Math.ceil(workgroups / x)];
}

/** The sum of a constant and multiples of indices, in wrapping arithmetic. */
export function affine(
  offset: number,
  strides: readonly number[],
  index: readonly string[],
): string {
  let text = offset === 0 ? "" : `${offset >>> 0}u`;
  strides.forEach((stride, axis) => {
    if (stride === 0) return;
    const size = Math.abs(stride);
    const term = size === 1 ? index[axis]! : `${index[axis]} * ${size}u`;
    if (stride < 0) text = `${text || "0u"} - ${term}`;
    else text = text ? `${text} + ${term}` : term;
  });
  return text || "0u";
}

/** Statements that split a number into indices over a shape, the last axis fastest. */
export function splitIndex(
  value: string,
  shape: Shape,
  index: readonly string[],
): string {
  let below = 1;
  const lines: string[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const quotient = below === 1 ? value : `${value} / ${below}u`;
    const text = axis === 0 ? quotient : `(${quotient}) % ${shape[axis]}u`;
    lines.push(`let ${index[axis]} = ${text};`);
    below *= shape[axis]!;
  }
  return lines.join("\n");
}
