/**
 * A small WebAssembly encoder: functions of i32 parameters over one imported memory, and the module that holds them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { control, i32, v128 } from "./opcodes.ts";

/** Type of a local. */
export const valueType = { i32: 0x7f, v128: 0x7b } as const;

/** One of the types of locals. */
export type ValueType = typeof valueType[keyof typeof valueType];

/** Index of a local or parameter of a function. */
export type Local = number;

/** A finished function. */
export interface FunctionCode {
  /** Number of i32 parameters; there are no results. */
  readonly params: number;
  /** Locals and instructions as a module holds them. */
  readonly body: Uint8Array;
}

/** A byte string that grows at its end. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(128);
  #length = 0;

  /** What has been written. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Appends one byte. */
  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  /** Appends bytes. */
  append(bytes: ArrayLike<number>): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Appends an unsigned 32-bit integer as LEB128. */
  unsigned(value: number): void {
    for (value >>>= 0; value >= 0x80; value >>>= 7) this.byte(value | 0x80);
    this.byte(value);
  }

  /** Appends a signed 32-bit integer as LEB128. */
  signed(value: number): void {
    for (value |= 0; value < -64 || value > 63; value >>= 7) {
      this.byte(value & 0x7f | 0x80);
    }
    this.byte(value & 0x7f);
  }

  /** Appends bytes after their number. */
  sized(bytes: Uint8Array): void {
    this.unsigned(bytes.length);
    this.append(bytes);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + count));
    grown.set(this.bytes);
    this.#bytes = grown;
  }
}

/** Writes one function; instructions chain. */
export class FunctionBuilder {
  /** Number of i32 parameters, which are the first locals. */
  readonly params: number;
  #types: ValueType[] = [];
  #free = new Map<ValueType, Local[]>();
  #taken: Local[] = [];
  #entry = new ByteWriter();
  #body = new ByteWriter();

  constructor(params: number) {
    this.params = params;
  }

  /** A local, freed with the scope that it is taken in. */
  local(type: ValueType = valueType.i32): Local {
    const local = this.#free.get(type)?.pop() ?? this.#newLocal(type);
    this.#taken.push(local);
    return local;
  }

  /** Runs `emit`, whose locals may serve again after it. */
  scope(emit: () => void): void {
    const mark = this.#taken.length;
    emit();
    for (const local of this.#taken.splice(mark)) {
      const type = this.#types[local - this.params]!;
      const free = this.#free.get(type);
      if (free) free.push(local);
      else this.#free.set(type, [local]);
    }
  }

  /** A vector constant in a local that is set once, on entry: twice as fast in a loop as the constant itself. */
  hoisted(bytes: Uint8Array): Local {
    const local = this.#newLocal(valueType.v128);
    encode(this.#entry, v128.const);
    this.#entry.append(bytes);
    this.#entry.byte(0x21);
    this.#entry.unsigned(local);
    return local;
  }

  /** Any instruction without immediates, or with bytes for them. */
  op(opcode: number, ...immediates: number[]): this {
    encode(this.#body, opcode);
    for (const byte of immediates) this.#body.byte(byte);
    return this;
  }

  /** Pushes locals. */
  get(...locals: Local[]): this {
    for (const local of locals) {
      this.#body.byte(0x20);
      this.#body.unsigned(local);
    }
    return this;
  }

  /** Pops into a local. */
  set(local: Local): this {
    this.#body.byte(0x21);
    this.#body.unsigned(local);
    return this;
  }

  /** Copies the top of the stack into a local. */
  tee(local: Local): this {
    this.#body.byte(0x22);
    this.#body.unsigned(local);
    return this;
  }

  /** Pushes an i32 constant; values from 2³¹ wrap, as addresses do. */
  const(value: number): this {
    this.#body.byte(0x41);
    this.#body.signed(value);
    return this;
  }

  /** A load or store at the address on the stack plus `offset` bytes; `lane` for those of one lane. */
  memory(opcode: number, offset = 0, lane?: number): this {
    encode(this.#body, opcode);
    this.#body.byte(0); // no promise of alignment
    this.#body.unsigned(offset);
    if (lane !== undefined) this.#body.byte(lane);
    return this;
  }

  /** Adds a constant to a local. */
  increment(local: Local, by: number): this {
    return by === 0 ? this : this.get(local).const(by).op(i32.add).set(local);
  }

  /** `if (top of the stack) then(); else otherwise();` where both push a `result`, or nothing. */
  if(then: () => void, otherwise?: () => void, result: number = 0x40): this {
    this.op(control.if, result);
    then();
    if (otherwise) {
      this.op(control.else);
      otherwise();
    }
    return this.op(control.end);
  }

  /** `do body(); while (condition());` where `condition` pushes an i32. */
  doWhile(body: () => void, condition: () => void): this {
    this.op(control.loop, 0x40);
    body();
    condition();
    return this.op(control.branchIf, 0).op(control.end);
  }

  /** `while (condition()) body();` where `condition` pushes an i32. */
  while(condition: () => void, body: () => void): this {
    condition();
    return this.if(() => this.doWhile(body, condition));
  }

  /** Calls the function of that index in the module. */
  call(index: number): this {
    this.#body.byte(control.call);
    this.#body.unsigned(index);
    return this;
  }

  /** The function. */
  finish(): FunctionCode {
    const out = new ByteWriter();
    const runs: { type: ValueType; count: number }[] = [];
    for (const type of this.#types) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    out.unsigned(runs.length);
    for (const { type, count } of runs) {
      out.unsigned(count);
      out.byte(type);
    }
    out.append(this.#entry.bytes);
    out.append(this.#body.bytes);
    out.byte(control.end);
    return { params: this.params, body: out.bytes };
  }

  #newLocal(type: ValueType): Local {
    return this.params + this.#types.push(type) - 1;
  }
}

/** A module that imports its memory as `env.memory` and exports the last function as `run`. */
export function encodeModule(
  functions: readonly FunctionCode[],
): Uint8Array<ArrayBuffer> {
  const arities = [...new Set(functions.map((f) => f.params))];
  const out = new ByteWriter();
  out.append([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  const section = (id: number, write: (to: ByteWriter) => void) => {
    const content = new ByteWriter();
    write(content);
    out.byte(id);
    out.sized(content.bytes);
  };
  section(1, (types) => {
    types.unsigned(arities.length);
    for (const params of arities) {
      types.byte(0x60);
      types.sized(new Uint8Array(params).fill(valueType.i32));
      types.byte(0);
    }
  });
  section(2, (imports) => {
    imports.byte(1);
    imports.sized(utf8("env"));
    imports.sized(utf8("memory"));
    imports.append([2, 0, 0]);
  });
  section(3, (indices) => {
    indices.unsigned(functions.length);
    for (const f of functions) indices.unsigned(arities.indexOf(f.params));
  });
  section(7, (exports) => {
    exports.byte(1);
    exports.sized(utf8("run"));
    exports.byte(0);
    exports.unsigned(functions.length - 1);
  });
  section(10, (code) => {
    code.unsigned(functions.length);
    for (const f of functions) code.sized(f.body);
  });
  return out.bytes;
}

function encode(to: ByteWriter, opcode: number): void {
  if (opcode <= 0xff) return to.byte(opcode);
  to.byte(opcode >> 12);
  to.unsigned(opcode & 0xfff);
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
