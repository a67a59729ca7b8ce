/**
 * Plans as WebAssembly modules: a function for each stage of each distinct kernel, and `run`, which calls them in order.
 *
 * `run` reads addresses, in lines, from a table of words: those of the inputs, of the outputs, of the arena's pages, and
 * of the scratch memory that threads share and of their own, and last of packs.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { leafMapper, mapKernel } from "../plan/expression.ts";
import type {
  MatmulKernel,
  Place,
  Plan,
  SimpleKernel,
  Step,
} from "../plan/kernel.ts";
import { arrangeMatmul } from "./arrange.ts";
import type { FunctionCode } from "./assembler.ts";
import { barrier } from "./barrier.ts";
import { emitFused } from "./fused.ts";
import { kernelKey } from "./kernel_key.ts";
import { emitMap } from "./map.ts";
import { emitMatmul } from "./matmul.ts";
import { encodeModule } from "./module.ts";
import type { InputPack, Pack } from "./packs.ts";
import { emitReduce } from "./reduce.ts";
import { emitRowProduct } from "./row_product.ts";
import { asRowKernel } from "./row_table.ts";
import { emitRun } from "./run.ts";
import { emitScatter } from "./scatter.ts";
import { levelsOf, type Part } from "./schedule.ts";
import { emitSgemm, operandsOf } from "./sgemm.ts";
import { sharedCount, sharedFunctions } from "./shared.ts";
import {
  type CompiledKernel,
  type Engine,
  type Scratch,
  type Stage,
  StageBuilder,
} from "./stages.ts";

/** Most kernels whose code is kept: a few megabytes. */
const MOST_KEPT = 4096;

/** A plan as bytes. */
export interface ProgramCode {
  /** The module; it imports `env.memory` and `env.sgemm`, and exports `run(table, thread, threads)`, which each thread calls. */
  readonly module: Uint8Array<ArrayBuffer>;
  /** Scratch memory that its kernels need. */
  readonly scratch: Scratch;
  /** Packs that it can read. */
  readonly packs: readonly InputPack[];
  /** Nanoseconds that a run is shorter on all threads, about. */
  readonly saved: number;
}

/** Turns plans into modules; keeps the code of kernels, which programs have in common. */
export class ProgramCompiler {
  #engine: Engine;
  #kernels = new Map<string, CompiledKernel>();
  #shared: FunctionCode[] | null = null;

  /** A compiler for an engine. */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** The module of a plan; `donated` tells which inputs do not stay the same. */
  compile(plan: Plan, donated: readonly boolean[]): ProgramCode {
    const { relaxed, division, bits } = this.#engine;
    const packs: InputPack[] = [];
    const packAt = ({ buffer, key, bytes }: Pack, places: readonly Place[]) => {
      const place = places[buffer]!;
      if (place.kind !== "input" || donated[place.index]) return null;
      const { index: input } = place;
      const known = packs.findIndex((p) => p.input === input && p.key === key);
      return known < 0 ? packs.push({ input, key, bytes }) - 1 : known;
    };
    const parts = plan.steps.map((step) =>
      partsOf(step).map(({ kernel: given, buffers }): Part => {
        const kernel = this.#kernel(given, buffers.length);
        if (!kernel.pack) return { kernel, buffers };
        return { kernel, buffers, pack: packAt(kernel.pack, buffers) };
      })
    );
    const kernels = parts.flat().map(({ kernel }) => kernel);
    const shared = Math.max(0, ...kernels.map((kernel) => kernel.shared));
    // Kernels call the shared functions by their numbers, so these come first.
    const functions: FunctionCode[] = shared > 0
      ? (this.#shared ??= sharedFunctions(relaxed, bits)).slice(0, shared)
      : [];
    const wait = division && functions.push(barrier(bits)) - 1;
    const numbers = new Map<Stage, number>();
    const numberOf = (stage: Stage): number => {
      const known = numbers.get(stage);
      if (known !== undefined) return known;
      const number = functions.push(stage) - 1;
      numbers.set(stage, number);
      return number;
    };
    const steps = parts.map((list) => levelsOf(list, division));
    const own = most(kernels.map(({ scratch }) => scratch.own));
    const run = emitRun(plan, steps, { numberOf, barrier: wait, own }, bits);
    functions.push(run.code);
    return {
      module: encodeModule(functions, division !== null, bits),
      scratch: { common: most(steps.map(({ common }) => common)), own },
      packs,
      saved: division ? run.divided * (1 - 1 / division.threads) : 0,
    };
  }

  #kernel(kernel: SimpleKernel, buffers: number): CompiledKernel {
    const key = `${buffers} ${kernelKey(kernel)}`;
    let compiled = this.#kernels.get(key);
    if (!compiled) {
      const stages = new StageBuilder(buffers, this.#engine);
      compiled = compileKernel(kernel, stages, this.#engine.leastForBlas);
      if (this.#kernels.size === MOST_KEPT) this.#kernels.clear();
      this.#kernels.set(key, compiled);
    }
    return compiled;
  }
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
  builder: StageBuilder,
  leastForBlas: number,
): CompiledKernel {
  const ofRows = kernel.kind === "matmul" ? asRowKernel(kernel) : null;
  let shared = 0;
  if (ofRows) emitRowProduct(builder, ofRows);
  else shared = emitKernel(builder, kernel, leastForBlas);
  const { stages, scratch, pack } = builder;
  return { stages, scratch, shared, pack };
}

/** Emits a kernel; returns how many of the shared functions it needs. */
function emitKernel(
  builder: StageBuilder,
  kernel: SimpleKernel,
  leastForBlas: number,
): number {
  const arranged = kernel.kind === "matmul" ? arrangeMatmul(kernel) : kernel;
  switch (arranged.kind) {
    case "map":
      emitMap(builder, arranged);
      return 0;
    case "reduce":
      emitReduce(builder, arranged);
      return 0;
    case "scatter":
      emitScatter(builder, arranged);
      return 0;
    case "matmul":
      return emitProduct(builder, arranged, leastForBlas);
    case "fused":
      return emitFused(builder, arranged);
  }
}

/** Emits a product in the way that suits it; returns how many of the shared functions that needs. */
function emitProduct(
  builder: StageBuilder,
  kernel: MatmulKernel,
  leastForBlas: number,
): number {
  const operands = operandsOf(kernel, leastForBlas);
  if (operands) {
    emitSgemm(builder, kernel, operands);
    return 0;
  }
  emitMatmul(builder, kernel);
  return sharedCount(kernel);
}

function most(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.max(a, b), 0);
}
