/**
 * The WebAssembly instructions that generated kernels use, by type and name, as numbers that `FunctionBuilder` encodes.
 *
 * An instruction behind a prefix byte is written as the prefix followed by three digits: `0xfd0e4` is instruction 0xe4
 * of the SIMD prefix 0xfd.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Structured control flow. */
export const control = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  branchIf: 0x0d,
  call: 0x10,
} as const;

/** Locals of a function. */
export const local = { get: 0x20, set: 0x21, tee: 0x22 } as const;

/** Scalar integers: addresses of 32 bits and loop counters. */
export const i32 = {
  const: 0x41,
  load: 0x28,
  load8U: 0x2d,
  load16U: 0x2f,
  store: 0x36,
  eqz: 0x45,
  eq: 0x46,
  ne: 0x47,
  ltS: 0x48,
  ltU: 0x49,
  gtS: 0x4a,
  leS: 0x4c,
  geS: 0x4e,
  add: 0x6a,
  sub: 0x6b,
  mul: 0x6c,
  and: 0x71,
  or: 0x72,
  divS: 0x6d,
  divU: 0x6e,
  remU: 0x70,
  shl: 0x74,
  shrU: 0x76,
  wrap: 0xa7,
} as const;

/** Of the 64-bit integers what addresses and a waiting time take. */
export const i64 = {
  const: 0x42,
  ltU: 0x54,
  add: 0x7c,
  mul: 0x7e,
  shl: 0x86,
  extendS: 0xac,
  extendU: 0xad,
} as const;

/** Words that threads share: every access is seen by all of them in one order. */
export const atomic = {
  notify: 0xfe000,
  wait: 0xfe001,
  load: 0xfe010,
  store: 0xfe017,
  add: 0xfe01e,
} as const;

/** Drops the top of the stack. */
export const drop = 0x1a;

/** Picks the first of two scalars where the third is not 0. */
export const select = 0x1b;

/** Vectors of any kind: memory and bits. */
export const v128 = {
  load: 0xfd000,
  load8x8U: 0xfd002,
  load16x4U: 0xfd004,
  load32Splat: 0xfd009,
  store: 0xfd00b,
  const: 0xfd00c,
  not: 0xfd04d,
  and: 0xfd04e,
  andnot: 0xfd04f,
  or: 0xfd050,
  xor: 0xfd051,
  bitselect: 0xfd052,
  anyTrue: 0xfd053,
  load16Lane: 0xfd055,
  load32Lane: 0xfd056,
  store16Lane: 0xfd059,
  store32Lane: 0xfd05a,
  store64Lane: 0xfd05b,
  load32Zero: 0xfd05c,
  load64Zero: 0xfd05d,
  shuffle: 0xfd00d,
  relaxedSelect: 0xfd10b,
} as const;

/** Four integers. */
export const i32x4 = {
  splat: 0xfd011,
  extractLane: 0xfd01b,
  replaceLane: 0xfd01c,
  eq: 0xfd037,
  ne: 0xfd038,
  ltS: 0xfd039,
  ltU: 0xfd03a,
  gtS: 0xfd03b,
  abs: 0xfd0a0,
  neg: 0xfd0a1,
  shl: 0xfd0ab,
  shrS: 0xfd0ac,
  shrU: 0xfd0ad,
  add: 0xfd0ae,
  sub: 0xfd0b1,
  mul: 0xfd0b5,
  minS: 0xfd0b6,
  minU: 0xfd0b7,
  maxS: 0xfd0b8,
  maxU: 0xfd0b9,
  extendLowU: 0xfd0a9,
  extendHighU: 0xfd0aa,
  truncSatS: 0xfd0f8,
  truncSatU: 0xfd0f9,
} as const;

/** Sixteen bytes; `swizzle(a, b)` is the bytes of `a` that those of `b` number, 0 from 16 on. */
export const i8x16 = {
  swizzle: 0xfd00e,
  narrowU: 0xfd066,
  add: 0xfd06e,
  relaxedSwizzle: 0xfd100,
} as const;

/** Eight integers. */
export const i16x8 = {
  gtS: 0xfd031,
  narrowU: 0xfd086,
  extendLowU: 0xfd089,
  extendHighU: 0xfd08a,
  shl: 0xfd08b,
  shrS: 0xfd08c,
  shrU: 0xfd08d,
  add: 0xfd08e,
} as const;

/** Two integers of 64 bits; `extmul` takes the lower or upper two of four. */
export const i64x2 = {
  shl: 0xfd0cb,
  shrU: 0xfd0cd,
  add: 0xfd0ce,
  extmulLowU: 0xfd0de,
  extmulHighU: 0xfd0df,
} as const;

/** Four floats. `pmin(a, b)` is `b < a ? b : a`, `pmax(a, b)` is `a < b ? b : a`: fast, and a NaN in `a` stays. */
export const f32x4 = {
  demote: 0xfd05e,
  eq: 0xfd041,
  ne: 0xfd042,
  lt: 0xfd043,
  gt: 0xfd044,
  le: 0xfd045,
  floor: 0xfd068,
  abs: 0xfd0e0,
  neg: 0xfd0e1,
  sqrt: 0xfd0e3,
  add: 0xfd0e4,
  sub: 0xfd0e5,
  mul: 0xfd0e6,
  div: 0xfd0e7,
  min: 0xfd0e8,
  max: 0xfd0e9,
  pmin: 0xfd0ea,
  pmax: 0xfd0eb,
  convertS: 0xfd0fa,
  convertU: 0xfd0fb,
  relaxedMadd: 0xfd105,
  relaxedNmadd: 0xfd106,
} as const;

/** Two doubles. */
export const f64x2 = {
  promoteLow: 0xfd05f,
  add: 0xfd0f0,
  sub: 0xfd0f1,
  mul: 0xfd0f2,
  div: 0xfd0f3,
  pmin: 0xfd0f6,
  pmax: 0xfd0f7,
  convertLowS: 0xfd0fe,
  convertLowU: 0xfd0ff,
} as const;
