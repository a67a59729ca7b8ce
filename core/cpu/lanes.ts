/**
 * Vector code as expressions: each call emits one instruction and gives the local that holds its result.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { FunctionBuilder, Local, LocalOf } from "./assembler.ts";
import { f32x4, i32x4, v128 } from "./opcodes.ts";

/** A vector in a local. */
export interface Vec {
  /** Where it is. */
  readonly local: LocalOf<"vector">;
}

/** A vector, or a number for a vector that repeats it. */
export type Operand = Vec | number;

/** Emits vector instructions into a function. */
export class Lanes {
  /** The function. */
  readonly code: FunctionBuilder;
  /** Whether the engine has relaxed SIMD: fused multiply-add. */
  readonly relaxed: boolean;
  #constants = new Map<string, Vec>();

  /** Vector code of a function. */
  constructor(code: FunctionBuilder, relaxed: boolean) {
    this.code = code;
    this.relaxed = relaxed;
  }

  /** An instruction whose numbers are floats. */
  f32(opcode: number, ...operands: Operand[]): Vec {
    return this.#apply(opcode, operands, new Float32Array(4));
  }

  /** An instruction whose numbers are integers. */
  i32(opcode: number, ...operands: Operand[]): Vec {
    return this.#apply(opcode, operands, new Int32Array(4));
  }

  /** An instruction whose numbers are doubles. */
  f64(opcode: number, ...operands: Operand[]): Vec {
    return this.#apply(opcode, operands, new Float64Array(2));
  }

  /** `a·b + c`, fused where the engine can. */
  madd(a: Operand, b: Operand, c: Operand): Vec {
    return this.relaxed
      ? this.f32(f32x4.relaxedMadd, a, b, c)
      : this.f32(f32x4.add, this.f32(f32x4.mul, a, b), c);
  }

  /** `c - a·b`, fused where the engine can. */
  nmadd(a: Operand, b: Operand, c: Operand): Vec {
    return this.relaxed
      ? this.f32(f32x4.relaxedNmadd, a, b, c)
      : this.f32(f32x4.sub, c, this.f32(f32x4.mul, a, b));
  }

  /** `a` where the bits of a mask are set, `b` elsewhere; a lane of the mask is all ones or zeros. */
  select(mask: Vec, a: Operand, b: Operand): Vec {
    const opcode = this.relaxed ? v128.relaxedSelect : v128.bitselect;
    return this.f32(opcode, a, b, mask);
  }

  /** `Σ coefficients[i] · xⁱ` by Horner's rule. */
  polynomial(x: Vec, coefficients: readonly number[]): Vec {
    return coefficients.slice(0, -1).reduceRight<Operand>(
      (sum, c) => this.madd(sum, x, c),
      coefficients.at(-1)!,
    ) as Vec;
  }

  /** A shift of integers by a constant. */
  shift(opcode: number, x: Vec, count: number): Vec {
    this.code.get(x.local).const(count).op(opcode);
    return this.pop();
  }

  /** Four words picked from the eight of two vectors. */
  shuffle(a: Vec, b: Vec, words: readonly number[]): Vec {
    this.code.get(a.local, b.local);
    this.code.op(v128.shuffle, ...words.flatMap(bytesOfWord));
    return this.pop();
  }

  /** An i32 local in all lanes. */
  splat(local: Local): Vec {
    this.code.get(local).op(i32x4.splat);
    return this.pop();
  }

  /** Pushes one lane as an i32. */
  extract(x: Vec, lane: number): void {
    this.code.get(x.local).op(i32x4.extractLane, lane);
  }

  /** Folds the lanes with an instruction; the result is in all of them. */
  fold(x: Vec, combine: (a: Vec, b: Vec) => Vec): Vec {
    const pairs = combine(x, this.shuffle(x, x, [2, 3, 0, 1]));
    return combine(pairs, this.shuffle(pairs, pairs, [1, 0, 3, 2]));
  }

  /** Overwrites a vector that `variable` made. */
  assign(target: Vec, value: Operand): void {
    const from = typeof value === "number" ? this.float(value) : value;
    this.code.get(from.local).set(target.local);
  }

  /** A vector to assign to. */
  variable(): Vec {
    return { local: this.code.vector() };
  }

  /** The vector on top of the stack. */
  pop(): Vec {
    const vec = this.variable();
    this.code.set(vec.local);
    return vec;
  }

  /** A float in all lanes. */
  float(value: number): Vec {
    return this.#constant(new Float32Array(4).fill(value));
  }

  /** An integer in all lanes, or one for each. */
  integer(...values: number[]): Vec {
    const words = new Int32Array(4).fill(values[0]!);
    words.set(values);
    return this.#constant(words);
  }

  #apply(
    opcode: number,
    operands: readonly Operand[],
    filler: Float32Array | Int32Array | Float64Array,
  ): Vec {
    for (const x of operands) {
      const vec = typeof x === "number" ? this.#constant(filler.fill(x)) : x;
      this.code.get(vec.local);
    }
    this.code.op(opcode);
    return this.pop();
  }

  #constant(values: Float32Array | Int32Array | Float64Array): Vec {
    const bytes = new Uint8Array(values.buffer);
    const key = bytes.join();
    let vec = this.#constants.get(key);
    if (!vec) {
      vec = { local: this.code.hoisted(bytes) };
      this.#constants.set(key, vec);
    }
    return vec;
  }
}

function bytesOfWord(word: number): number[] {
  return [4 * word, 4 * word + 1, 4 * word + 2, 4 * word + 3];
}
