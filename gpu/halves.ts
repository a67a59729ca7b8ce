/**
 * Buffers of halves, two in a word: how they are declared, read and written.
 *
 * This module is browser compatible.
 *
 * @module
 */

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
  name: string,
  { isVector, isStored }: HalfBuffer,
): string {
  const word = `${name}[at >> 1u]`;
  const load = isVector
    ? `fn load_${name}(at: u32) -> vec4u {
  let words = ${name}[at].xxyy;
  return (words >> vec4u(0u, 16u, 0u, 16u)) & vec4u(0xffffu);
}`
    : `fn load_${name}(at: u32) -> u32 {
  return (${
      isStored ? `atomicLoad(&${word})` : word
    } >> ((at & 1u) << 4u)) & 0xffffu;
}`;
  if (!isStored) return load;
  // Another invocation may store the other half of a word.
  const store = isVector
    ? `fn store_${name}(at: u32, bits: vec4u) {
  ${name}[at] = bits.xz | (bits.yw << vec2u(16u));
}`
    : `fn store_${name}(at: u32, bits: u32) {
  let shift = (at & 1u) << 4u;
  atomicAnd(&${word}, 0xffff0000u >> shift);
  atomicOr(&${word}, bits << shift);
}`;
  return `${load}\n${store}`;
}
