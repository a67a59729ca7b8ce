/**
 * A small WebAssembly assembler: functions of addresses and integers, without results.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ByteWriter } from "./byte_writer.ts";
import {
  control,
  i32,
  i64,
  local as variable,
  select,
  v128,
} from "./opcodes.ts";

const NO_RESULT = 0x40;

/** How many functions a module imports: these come before its own. */
export const IMPORTED = 1;

/** The one that multiplies matrices by a BLAS. */
export const SGEMM = 0;

/** Its parameters, as `functionOf` takes them. */
export const SGEMM_KINDS = "iiiiiaiaiaii";

/** Type of a local. */
export const valueType = { i32: 0x7f, i64: 0x7e, v128: 0x7b } as const;

/** One of the types of locals. */
export type ValueType = typeof valueType[keyof typeof valueType];

/** Bits of an address. */
export type AddressBits = 32 | 64;

declare const kind: unique symbol;

/** Index of a local or parameter of a function, by what that holds. */
export type LocalOf<K extends "integer" | "address" | "vector"> =
  & number
  & { readonly [kind]: K };

type AnyLocal = LocalOf<"integer" | "address" | "vector">;

/** A local that holds an i32. */
export type Local = LocalOf<"integer">;

/** A local that holds an address: an i32, or an i64 where addresses have 64 bits. */
export type Pointer = LocalOf<"address">;

/** As many of a type as a number says. */
export type Several<T, N extends number, L extends T[] = []> = number extends N
  ? T[]
  : L["length"] extends N ? L
  : Several<T, N, [...L, T]>;

/** A number known now, or a local that holds it at run time. */
export type Bound = number | { readonly local: Local };

/** From where to where. */
export interface Range {
  /** Its start. */
  readonly from: Bound;
  /** Its end. */
  readonly to: Bound;
}

/** A part of a range. */
export interface Block extends Range {
  /** How long it is. */
  readonly size: Bound;
}

/** A finished function. */
export interface FunctionCode {
  /** Types of the parameters; there are no results. */
  readonly params: readonly ValueType[];
  /** Locals and instructions as a module holds them. */
  readonly body: Uint8Array;
}

/** Writes one function; instructions chain. */
export class FunctionBuilder {
  /** Bits of an address. */
  readonly bits: AddressBits;
  #params: readonly ValueType[];
  /** Types of the locals, of which the parameters are the first. */
  #types: ValueType[];
  #free = new Map<ValueType, number[]>();
  #taken: number[] = [];
  #entry = new ByteWriter();
  #body = new ByteWriter();

  /** An empty function. */
  constructor(bits: AddressBits, params: readonly ValueType[]) {
    this.bits = bits;
    this.#params = params;
    this.#types = [...params];
  }

  /** A local for an integer, freed with the scope that it is taken in, as those below are. */
  local(): Local {
    return this.#take(valueType.i32) as Local;
  }

  /** A local for an address. */
  pointer(): Pointer {
    return this.#take(addressType(this.bits)) as Pointer;
  }

  /** A local for a vector. */
  vector(): LocalOf<"vector"> {
    return this.#take(valueType.v128) as LocalOf<"vector">;
  }

  /** Several locals for integers. */
  locals<N extends number>(count: N): Several<Local, N> {
    const list = Array.from({ length: count }, () => this.local());
    return list as Several<Local, N>;
  }

  /** Several locals for addresses. */
  pointers<N extends number>(count: N): Several<Pointer, N> {
    const list = Array.from({ length: count }, () => this.pointer());
    return list as Several<Pointer, N>;
  }

  /** Runs `emit`, whose locals may serve again after it. */
  scope(emit: () => void): void {
    const mark = this.#taken.length;
    emit();
    for (const local of this.#taken.splice(mark)) {
      const type = this.#types[local]!;
      const free = this.#free.get(type);
      if (free) free.push(local);
      else this.#free.set(type, [local]);
    }
  }

  /** A vector constant in a local that is set once, on entry: twice as fast in a loop as the constant itself. */
  hoisted(bytes: Uint8Array): LocalOf<"vector"> {
    const local = this.#newLocal(valueType.v128) as LocalOf<"vector">;
    encode(this.#entry, v128.const);
    this.#entry.append(bytes);
    this.#entry.byte(variable.set);
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
  get(...locals: AnyLocal[]): this {
    for (const local of locals) {
      this.#body.byte(variable.get);
      this.#body.unsigned(local);
    }
    return this;
  }

  /** Pops into a local. */
  set(local: AnyLocal): this {
    this.#body.byte(variable.set);
    this.#body.unsigned(local);
    return this;
  }

  /** Copies the top of the stack into a local. */
  tee(local: AnyLocal): this {
    this.#body.byte(variable.tee);
    this.#body.unsigned(local);
    return this;
  }

  /** Pushes an i32 constant; values from 2³¹ wrap. */
  const(value: number): this {
    this.#body.byte(i32.const);
    this.#body.signed(value);
    return this;
  }

  /** Pushes an address of less than 2³¹. */
  address(value: number): this {
    return this.bits === 64 ? this.long(value) : this.const(value);
  }

  /** Adds the integer on top of the stack to the address below it. */
  plus(): this {
    return this.bits === 64
      ? this.op(i64.extendS).op(i64.add)
      : this.op(i32.add);
  }

  /** Adds an address to the integer on top of the stack. */
  from(pointer: Pointer): this {
    return this.bits === 64
      ? this.op(i64.extendS).get(pointer).op(i64.add)
      : this.get(pointer).op(i32.add);
  }

  /** Pushes whether an address is below another. */
  isBelow(a: Pointer, b: Pointer): this {
    return this.get(a, b).op(this.bits === 64 ? i64.ltU : i32.ltU);
  }

  /** Makes the address on top of the stack an integer, which it is where it stands for one. */
  wrap(): this {
    return this.bits === 64 ? this.op(i32.wrap) : this;
  }

  /** Pushes an i64 constant of at most 32 bits. */
  long(value: number): this {
    this.#body.byte(i64.const);
    this.#body.signed(value);
    return this;
  }

  /** Pushes a bound. */
  push(bound: Bound): this {
    return typeof bound === "number"
      ? this.const(bound)
      : this.get(bound.local);
  }

  /** A load or store at the address on the stack plus `offset` bytes; `lane` for those of one lane. */
  memory(opcode: number, offset = 0, lane?: number): this {
    encode(this.#body, opcode);
    this.#body.byte(0); // no promise of alignment
    this.#body.unsigned(offset);
    if (lane !== undefined) this.#body.byte(lane);
    return this;
  }

  /** An atomic access to the word at the address on the stack plus `offset` bytes. */
  atomic(opcode: number, offset = 0): this {
    encode(this.#body, opcode);
    this.#body.byte(2); // aligned to four bytes
    this.#body.unsigned(offset);
    return this;
  }

  /** Adds an integer to an address. */
  add(pointer: Pointer, by: Local): this {
    return this.get(pointer, by).plus().set(pointer);
  }

  /** Adds a constant to a local. */
  increment(local: Local | Pointer, by: number): this {
    if (by === 0) return this;
    this.get(local).const(by);
    const isInteger = this.#types[local] === valueType.i32;
    return (isInteger ? this.op(i32.add) : this.plus()).set(local);
  }

  /** `if (top of the stack) then(); else otherwise();` where both push a `result`, or nothing. */
  if(
    then: () => void,
    otherwise?: () => void,
    result: number = NO_RESULT,
  ): this {
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
    this.op(control.loop, NO_RESULT);
    body();
    condition();
    return this.op(control.branchIf, 0).op(control.end);
  }

  /** `while (condition()) body();` where `condition` pushes an i32. */
  while(condition: () => void, body: () => void): this {
    condition();
    return this.if(() => this.doWhile(body, condition));
  }

  /** Cuts a range into blocks of at most `step`; no loop for one that is known to be a single block. */
  blocks(
    { from: first, to: end }: Range,
    step: number,
    body: (block: Block) => void,
  ): void {
    const known = typeof first === "number" && typeof end === "number";
    if (known && end - first <= step) {
      return body({ from: first, to: end, size: end - first });
    }
    const [from, to, size] = this.locals(3);
    const isLeft = () => this.get(from).push(end).op(i32.ltS);
    const next = () => {
      this.get(from).const(step).op(i32.add).push(end);
      this.get(from).const(step).op(i32.add).push(end).op(i32.leS);
      this.op(select).tee(to);
      this.get(from).op(i32.sub).set(size);
      body({ from: { local: from }, to: { local: to }, size: { local: size } });
      this.get(to).set(from);
    };
    this.push(first).set(from);
    if (known) this.doWhile(next, isLeft);
    else this.while(isLeft, next);
  }

  /** Calls the function of that index among the module's own. */
  call(index: number): this {
    return this.callImported(IMPORTED + index);
  }

  /** Calls an imported function. */
  callImported(index: number): this {
    this.#body.byte(control.call);
    this.#body.unsigned(index);
    return this;
  }

  /** The function. */
  finish(): FunctionCode {
    const out = new ByteWriter();
    const runs: { type: ValueType; count: number }[] = [];
    for (const type of this.#types.slice(this.#params.length)) {
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
    return { params: this.#params, body: out.bytes };
  }

  #take(type: ValueType): number {
    const local = this.#free.get(type)?.pop() ?? this.#newLocal(type);
    this.#taken.push(local);
    return local;
  }

  #newLocal(type: ValueType): number {
    return this.#types.push(type) - 1;
  }
}

/** The parameters that a word stands for: an "a" for an address, an "i" for an integer. */
type Parameters<S extends string> = S extends `a${infer R}`
  ? [Pointer, ...Parameters<R>]
  : S extends `i${infer R}` ? [Local, ...Parameters<R>]
  : [];

/** A function to write, and its parameters: for each an "a" if it is an address, an "i" if it is an integer. */
export function functionOf<S extends string>(
  bits: AddressBits,
  kinds: S,
): { code: FunctionBuilder; parameters: Parameters<S> } {
  const types = typesOf(kinds, bits);
  return {
    code: new FunctionBuilder(bits, types),
    parameters: [...types.keys()] as Parameters<S>,
  };
}

/** The types of parameters. */
export function typesOf(kinds: string, bits: AddressBits): ValueType[] {
  return [...kinds].map((kind) =>
    kind === "a" ? addressType(bits) : valueType.i32
  );
}

function addressType(bits: AddressBits): ValueType {
  return bits === 64 ? valueType.i64 : valueType.i32;
}

function encode(to: ByteWriter, opcode: number): void {
  if (opcode <= 0xff) return to.byte(opcode);
  to.byte(opcode >> 12);
  to.unsigned(opcode & 0xfff);
}
