/**
 * Plans as WebAssembly modules: a function for each distinct kernel, and `run`, which calls them in order.
 *
 * A function takes the addresses of its buffers and of scratch memory. `run` reads addresses from a table of words:
 * those of the inputs, of the outputs, of the arena's pages, and last of the scratch memory.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { leafMapper, mapKernel } from "../plan/expression.ts";
import type { Place, Plan, SimpleKernel, Step } from "../plan/kernel.ts";
import { walkSteps } from "../plan/loops.ts";
import { arrangeMatmul } from "./arrange.ts";
import { FunctionBuilder, type FunctionCode } from "./assembler.ts";
import { kernelKey } from "./kernel_key.ts";
import { Lanes } from "./lanes.ts";
import { emitMap } from "./map.ts";
import { emitMatmul } from "./matmul.ts";
import { encodeModule } from "./module.ts";
import { i32 } from "./opcodes.ts";
import { emitReduce } from "./reduce.ts";
import { emitScatter } from "./scatter.ts";
import { sharedCount, sharedFunctions } from "./shared.ts";

/** Most kernels whose code is kept: a few megabytes. */
const MOST_KEPT = 4096;

/** The code of a kernel, and the scratch memory that it needs. */
interface CompiledKernel extends FunctionCode {
  readonly scratchBytes: number;
  /** How many of the shared functions it needs. */
  readonly shared: number;
}

/** A plan as bytes. */
export interface ProgramCode {
  /** The module; it imports `env.memory` and exports `run(table)`. */
  readonly module: Uint8Array<ArrayBuffer>;
  /** Scratch memory that its kernels need. */
  readonly scratchBytes: number;
}

/** Turns plans into modules; keeps the code of kernels, which programs have in common. */
export class ProgramCompiler {
  #relaxed: boolean;
  #kernels = new Map<string, CompiledKernel>();
  #shared: FunctionCode[] | null = null;

  /** A compiler for an engine with or without relaxed SIMD. */
  constructor(relaxed: boolean) {
    this.#relaxed = relaxed;
  }

  /** The module of a plan. */
  compile(plan: Plan): ProgramCode {
    const steps = plan.steps.map((step) =>
      partsOf(step).map(({ kernel, buffers }) => {
        return { kernel: this.#kernel(kernel, buffers.length), buffers };
      })
    );
    const calls = steps.flat();
    const shared = Math.max(0, ...calls.map(({ kernel }) => kernel.shared));
    // Kernels call the shared functions by their numbers, so these come first.
    const functions: FunctionCode[] = shared > 0
      ? (this.#shared ??= sharedFunctions(this.#relaxed)).slice(0, shared)
      : [];
    const numbers = new Map<CompiledKernel, number>();
    const run = new FunctionBuilder(1);
    const call = ({ kernel, buffers }: typeof calls[number]): void => {
      let number = numbers.get(kernel);
      if (number === undefined) {
        number = functions.push(kernel) - 1;
        numbers.set(kernel, number);
      }
      for (const place of buffers) pushAddress(run, place, plan);
      run.get(0).memory(i32.load, 4 * (tableSize(plan) - 1)).call(number);
    };
    const step = (index: number) => steps[index]!.forEach(call);
    walkSteps(plan, step, (trips, body) => {
      const left = run.local();
      run.const(trips).set(left);
      run.doWhile(body, () => run.get(left).const(1).op(i32.sub).tee(left));
    });
    functions.push(run.finish());
    const scratch = calls.map(({ kernel }) => kernel.scratchBytes);
    return {
      module: encodeModule(functions),
      scratchBytes: scratch.reduce((a, b) => Math.max(a, b), 0),
    };
  }

  #kernel(kernel: SimpleKernel, buffers: number): CompiledKernel {
    const key = `${buffers} ${kernelKey(kernel)}`;
    let compiled = this.#kernels.get(key);
    if (!compiled) {
      compiled = compileKernel(kernel, buffers, this.#relaxed);
      if (this.#kernels.size === MOST_KEPT) this.#kernels.clear();
      this.#kernels.set(key, compiled);
    }
    return compiled;
  }
}

/** Number of words in the table of a plan. */
export function tableSize(plan: Plan): number {
  return plan.inputs + plan.outputs.length + plan.pages.length + 1;
}

/** The kernels of a step, each with the buffers that it uses: so numbered, equal parts of groups are equal. */
function partsOf({ kernel, buffers }: Step): {
  kernel: SimpleKernel;
  buffers: readonly Place[];
}[] {
  if (kernel.kind !== "group") return [{ kernel, buffers }];
  return kernel.parts.map((part) => {
    const used: number[] = [];
    const buffer = (number: number): number => {
      const known = used.indexOf(number);
      return known < 0 ? used.push(number) - 1 : known;
    };
    const rename = leafMapper((e) =>
      "buffer" in e ? { ...e, buffer: buffer(e.buffer) } : e
    );
    const own = mapKernel(part, { buffer, expr: (e) => rename(e)! });
    return { kernel: own, buffers: used.map((number) => buffers[number]!) };
  });
}

function compileKernel(
  kernel: SimpleKernel,
  buffers: number,
  relaxed: boolean,
): CompiledKernel {
  const code = new FunctionBuilder(buffers + 1);
  const lanes = new Lanes(code, relaxed);
  const arranged = kernel.kind === "matmul" ? arrangeMatmul(kernel) : kernel;
  let scratchBytes = 0, shared = 0;
  switch (arranged.kind) {
    case "map":
      emitMap(lanes, arranged);
      break;
    case "reduce":
      scratchBytes = emitReduce(lanes, arranged, buffers);
      break;
    case "scatter":
      emitScatter(lanes, arranged);
      break;
    case "matmul":
      scratchBytes = emitMatmul(lanes, arranged, buffers);
      shared = sharedCount(arranged, relaxed);
      break;
  }
  return { ...code.finish(), scratchBytes, shared };
}

function pushAddress(run: FunctionBuilder, place: Place, plan: Plan): void {
  const outputs = plan.inputs, pages = outputs + plan.outputs.length;
  run.get(0);
  switch (place.kind) {
    case "input":
      run.memory(i32.load, 4 * place.index);
      break;
    case "output":
      run.memory(i32.load, 4 * (outputs + place.index));
      break;
    case "arena":
      run.memory(i32.load, 4 * (pages + place.page));
      run.const(place.offset).op(i32.add);
  }
}
