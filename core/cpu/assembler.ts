/**
 * A small WebAssembly assembler: functions with i32 parameters and no results.
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

/** Type of a local. */
export const valueType = { i32: 0x7f, v128: 0x7b } as const;

/** One of the types of locals. */
export type ValueType = typeof valueType[keyof typeof valueType];

/** Index of a local or parameter of a function. */
export type Local = number;

/** As many locals as a number says. */
export type Locals<N extends number, T extends Local[] = []> = number extends N
  ? Local[]
  : T["length"] extends N ? T
  : Locals<N, [...T, Local]>;

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
  /** Number of i32 parameters; there are no results. */
  readonly params: number;
  /** Locals and instructions as a module holds them. */
  readonly body: Uint8Array;
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

  /** An empty function. */
  constructor(params: number) {
    this.params = params;
  }

  /** A local, freed with the scope that it is taken in. */
  local(type: ValueType = valueType.i32): Local {
    const local = this.#free.get(type)?.pop() ?? this.#newLocal(type);
    this.#taken.push(local);
    return local;
  }

  /** Several i32 locals. */
  locals<N extends number>(count: N): Locals<N> {
    return Array.from({ length: count }, () => this.local()) as Locals<N>;
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
  get(...locals: Local[]): this {
    for (const local of locals) {
      this.#body.byte(variable.get);
      this.#body.unsigned(local);
    }
    return this;
  }

  /** Pops into a local. */
  set(local: Local): this {
    this.#body.byte(variable.set);
    this.#body.unsigned(local);
    return this;
  }

  /** Copies the top of the stack into a local. */
  tee(local: Local): this {
    this.#body.byte(variable.tee);
    this.#body.unsigned(local);
    return this;
  }

  /** Pushes an i32 constant; values from 2³¹ wrap, as addresses do. */
  const(value: number): this {
    this.#body.byte(i32.const);
    this.#body.signed(value);
    return this;
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

  /** Adds one local to another. */
  add(local: Local, by: Local): this {
    return this.get(local, by).op(i32.add).set(local);
  }

  /** Adds a constant to a local. */
  increment(local: Local, by: number): this {
    return by === 0 ? this : this.get(local).const(by).op(i32.add).set(local);
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

/** A function of i32 parameters to write, and its parameters. */
export function functionOf<N extends number>(
  count: N,
): { code: FunctionBuilder; parameters: Locals<N> } {
  const parameters = Array.from({ length: count }, (_, i) => i);
  return {
    code: new FunctionBuilder(count),
    parameters: parameters as Locals<N>,
  };
}

function encode(to: ByteWriter, opcode: number): void {
  if (opcode <= 0xff) return to.byte(opcode);
  to.byte(opcode >> 12);
  to.unsigned(opcode & 0xfff);
}
