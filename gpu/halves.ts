/**
 * Buffers of halves, two in a word: how they are declared, read and written.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { eachWindow } from "./windows.ts";

/** How a buffer of halves is used. */
export interface HalfBuffer {
  /** Whether all accesses are of four aligned neighbours. */
  readonly isVector: boolean;
  /** Whether any are stores. */
  readonly isStored: boolean;
}

/** The element type of a buffer. */
export function halfElement({ isVector, isStored }: HalfBuffer): string {
  return isVector ? "vec2u" : isStored ? "atomic<u32>" : "u32";
}

/** The functions `load_…` and `store_…` of a buffer, which take and give bits: a `u32`, or a `vec4u` of neighbours. */
export function halfFunctions(
  buffer: number,
  starts: readonly number[],
  { isVector, isStored }: HalfBuffer,
): string {
  const each = (statements: (word: string) => string): string =>
    eachWindow(buffer, starts, isVector ? "at" : "at >> 1u", statements);
  const load = isVector
    ? `fn load_b${buffer}(at: u32) -> vec4u {
${
      each((words) =>
        `  let words = ${words}.xxyy;
  return (words >> vec4u(0u, 16u, 0u, 16u)) & vec4u(0xffffu);`
      )
    }
}`
    : `fn load_b${buffer}(at: u32) -> u32 {
${
      each((word) =>
        `  return (${
          isStored ? `atomicLoad(&${word})` : word
        } >> ((at & 1u) << 4u)) & 0xffffu;`
      )
    }
}`;
  if (!isStored) return load;
  // Another invocation may store the other half of a word.
  const store = isVector
    ? `fn store_b${buffer}(at: u32, bits: vec4u) {
${each((words) => `  ${words} = bits.xz | (bits.yw << vec2u(16u));`)}
}`
    : `fn store_b${buffer}(at: u32, bits: u32) {
  let shift = (at & 1u) << 4u;
${
      each((word) =>
        `  atomicAnd(&${word}, 0xffff0000u >> shift);
  atomicOr(&${word}, bits << shift);`
      )
    }
}`;
  return `${load}\n${store}`;
}
