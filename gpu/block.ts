/**
 * Expressions of kernels as statements.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import { fieldsOf } from "../core/ops.ts";
import type { Expr, Output, View } from "../core/plan/kernel.ts";
import { atWidth, type FunctionName, type Width } from "./functions.ts";
import {
  call,
  constant,
  convert,
  hiddenConstant,
  smallPower,
  typeName,
} from "./scalar.ts";
import { affine, type Shader } from "./shader.ts";

/** Where a block evaluates. */
export interface Point {
  /** Names of the loop indices. */
  readonly index: readonly string[];
  /** The axis of which the block takes four neighbours at once, and whose index counts such groups; or null. */
  readonly lanes: number | null;
  /** The names of what reductions have computed, by number. */
  readonly accs?: readonly string[];
}

/** What stands before the loop that a block is in. */
export interface Before {
  /** Where values that the loop does not change are computed. */
  readonly block: Block;
  /** Which those are. */
  readonly isFixed: (expr: Expr) => boolean;
}

/** Statements that evaluate expressions at one point of a loop, or at four neighbours along an axis. */
export class Block {
  #lines: string[] = [];
  readonly #values = new Map<Expr, string>();
  readonly #names = new Map<string, string>();
  readonly #width: Width;

  /** Evaluates at `point`; `prefix` keeps names apart from those of other blocks. */
  constructor(
    readonly shader: Shader,
    readonly point: Point,
    readonly prefix = "t",
    readonly before: Before | null = null,
  ) {
    this.#width = point.lanes === null ? 1 : 4;
  }

  /** The statements since the last time. */
  take(): string {
    const text = this.#lines.join("\n");
    this.#lines = [];
    return text;
  }

  /** Evaluates an expression: its name. */
  value(expr: Expr): string {
    let name = this.#values.get(expr);
    if (name === undefined) {
      name = expr.kind === "const"
        ? this.#text(expr)
        : this.before?.isFixed(expr)
        ? this.#spread(this.before.block, expr)
        : expr.kind === "acc"
        ? this.#text(expr)
        : this.#let(this.#text(expr));
      this.#values.set(expr, name);
    }
    return name;
  }

  /** The value of another block, which may be one for all four neighbours. */
  #spread(block: Block, expr: Expr): string {
    const name = block.value(expr);
    if (block.#width === this.#width) return name;
    return this.#let(`${this.#type(expr.dtype)}(${name})`);
  }

  /** Evaluates outputs, then stores them: one may be loaded from where another goes. */
  store(outputs: readonly Output[]): void {
    outputs.forEach(({ expr }) => this.value(expr));
    outputs.forEach((output) => this.#store(output));
  }

  #store({ buffer, view, expr }: Output): void {
    const value = this.value(expr);
    const word = expr.dtype === "bool"
      ? this.#let(this.#fit(`select(U(0u), U(1u), ${value})`))
      : value;
    const store = (address: string, value: string): void => {
      this.#lines.push(this.shader.store(buffer, address, value));
    };
    if (this.#width === 1) {
      store(this.#address(view), word);
    } else if (this.shader.vectors.has(buffer)) {
      store(this.#vectorAddress(view), word);
    } else {
      this.#lanes(view).forEach((address, i) =>
        store(address, `${word}[${i}]`)
      );
    }
  }

  /** Adds to elements of a buffer, one after another, at `view + stride · clamp(index, 0, size - 1)`. */
  scatter(
    buffer: number,
    view: View,
    index: Expr,
    stride: number,
    size: number,
    source: Expr,
  ): void {
    this.shader.bind(buffer);
    const added = this.value(source);
    this.#gathered(view, index, stride, size).forEach((address, i) => {
      const value = this.#width === 1 ? added : `${added}[${i}]`;
      this.#lines.push(this.shader.add(buffer, address, value));
    });
  }

  #let(text: string): string {
    let name = this.#names.get(text);
    if (name === undefined) {
      name = `${this.prefix}${this.#names.size}`;
      this.#names.set(text, name);
      this.#lines.push(`let ${name} = ${text};`);
    }
    return name;
  }

  #fit(text: string): string {
    return atWidth(text, this.#width);
  }

  #type(dtype: DType): string {
    return typeName(dtype, this.#width);
  }

  #address({ offset, strides }: View): string {
    return this.#let(affine(
      offset,
      strides.map((s, axis) => axis === this.point.lanes ? 4 * s : s),
      this.point.index,
    ));
  }

  #vectorAddress({ offset, strides }: View): string {
    return this.#let(affine(
      offset / 4,
      strides.map((s, axis) => axis === this.point.lanes ? s : s / 4),
      this.point.index,
    ));
  }

  /** Addresses of the four points, or of the one. */
  #lanes(view: View): string[] {
    const first = this.#address(view);
    if (this.point.lanes === null) return [first];
    const step = view.strides[this.point.lanes]!;
    return [0, 1, 2, 3].map((i) => affine(0, [1, i * step], [first, "1u"]));
  }

  #gathered(view: View, index: Expr, stride: number, size: number): string[] {
    const type = this.#type(index.dtype);
    const last = Math.max(size - 1, 0);
    const clamped = this.#let(
      `clamp(${this.value(index)}, ${type}(0), ${type}(${last}))`,
    );
    return this.#lanes(view).map((address, i) => {
      const at = this.#width === 1 ? clamped : `${clamped}[${i}]`;
      return affine(0, [1, stride], [address, `u32(${at})`]);
    });
  }

  #load(buffer: number, dtype: DType, addresses: readonly string[]): string {
    const words = addresses.map((address) => this.shader.load(buffer, address))
      .join(", ");
    if (dtype === "bool") return this.#fit(`(U(${words}) != U(0u))`);
    return this.#width === 1 ? words : `${this.#type(dtype)}(${words})`;
  }

  #text(expr: Expr): string {
    switch (expr.kind) {
      case "load": {
        const { buffer, view, dtype } = expr;
        if (this.shader.vectors.has(buffer)) {
          return this.#load(buffer, dtype, [this.#vectorAddress(view)]);
        }
        return this.#load(
          buffer,
          dtype,
          this.point.lanes === null || view.strides[this.point.lanes] === 0
            ? [this.#address(view)]
            : this.#lanes(view),
        );
      }
      case "gather": {
        const { buffer, view, stride, size, dtype } = expr;
        const addresses = this.#gathered(view, expr.index, stride, size);
        return this.#load(buffer, dtype, addresses);
      }
      case "repeat": {
        const { buffer, view, times, dtype } = expr;
        const addresses = this.#lanes(view).map((at) => `(${at}) / ${times}u`);
        return this.#load(buffer, dtype, addresses);
      }
      case "unpack":
        return this.#unpack(expr);
      case "const":
        return constant(expr.value, expr.dtype, this.#width);
      case "index": {
        const step = this.point.lanes === null
          ? 0
          : expr.view.strides[this.point.lanes]!;
        const first = this.#address(expr.view);
        const steps = [0, 1, 2, 3].map((i) => `${(i * step) >>> 0}u`);
        const counted = this.point.lanes === null
          ? first
          : `(vec4u(${first}) + vec4u(${steps.join(", ")}))`;
        const signed = this.#fit(`bitcast<I>(${counted})`);
        return this.#convert(signed, "i32", expr.dtype);
      }
      case "acc":
        return this.point.accs?.[expr.index] ?? "";
      case "cast":
        return this.#convert(this.value(expr.arg), expr.arg.dtype, expr.dtype);
      case "call":
        return this.#call(expr);
    }
  }

  #unpack({ buffer, view, levels }: Extract<Expr, { kind: "unpack" }>): string {
    const times = fieldsOf({ levels }), bits = 32 / times;
    const fields = this.#lanes(view).map((text) => {
      const at = this.#let(text);
      const word = this.shader.load(buffer, `${at} / ${times}u`);
      const shift = `${bits}u * (${at} % ${times}u)`;
      return `((${word} >> (${shift})) & ${2 ** bits - 1}u)`;
    });
    if (levels) this.shader.declare(levelsFunction(levels));
    const values = fields.map((field) =>
      levels ? `${levelsName(levels)}(${field})` : `f32(${field})`
    );
    return this.#width === 1 ? values[0]! : `vec4f(${values.join(", ")})`;
  }

  #call({ op, args, dtype }: Extract<Expr, { kind: "call" }>): string {
    const [base, exponent] = args;
    if (op === "pow" && exponent!.kind === "const" && base!.kind !== "const") {
      const text = smallPower(this.value(base!), exponent!.value);
      if (text !== null) return text;
    }
    const known = args.every(({ kind }) => kind === "const");
    const operands = args.map((arg) =>
      known && arg.kind === "const"
        ? hiddenConstant(arg.value, arg.dtype, this.#width)
        : this.value(arg)
    );
    // Of a selection the condition comes first.
    return call(op, operands, args.at(-1)?.dtype ?? dtype, this.#library);
  }

  #convert(value: string, from: DType, to: DType): string {
    return convert(value, from, to, this.#width, this.#library);
  }

  readonly #library = (name: FunctionName): string =>
    this.shader.call(name, this.#width);
}

/** The function that gives one of sixteen levels. */
function levelsFunction(levels: readonly number[]): string {
  const words = [...new Uint32Array(Float32Array.from(levels).buffer)];
  return `fn ${levelsName(levels)}(i: u32) -> f32 {
var levels = array<u32, 16>(${words.map((word) => `${word}u`).join(", ")});
return bitcast<f32>(levels[i]);
}`;
}

/** A name of its own for each set of levels. */
function levelsName(levels: readonly number[]): string {
  const words = [...new Uint32Array(Float32Array.from(levels).buffer)];
  return `level_${words.map((word) => word.toString(36)).join("_")}`;
}
