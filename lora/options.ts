/**
 * The options of `lora`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Selector, type Tensor, TreeError } from "../core/mod.ts";
import { isAdapterName } from "../nn/adapter_forms.ts";
import { type AdapterInit, pissaIterations } from "./factors.ts";
import type { TargetOptions } from "./targets.ts";

/** How `lora` adapts a model. */
export interface LoraOptions extends TargetOptions {
  /** Rank R of the change, from 1 to the smaller side of each weight or slice. */
  readonly rank: number;
  /** The change counts alpha / rank times. */
  readonly alpha: number;
  /** Key for the first values. */
  readonly key: Tensor;
  /** Name of the adapter in a tree that has several; such a tree's nodes hold `lora: { name: … }`. */
  readonly name?: string;
  /** Ranks of layers whose paths match a key, as PEFT's rank_pattern: the first that fits the end of the path. */
  readonly rankPattern?: Readonly<Record<string, number>>;
  /** Alphas of layers whose paths match a key, as PEFT's alpha_pattern. */
  readonly alphaPattern?: Readonly<Record<string, number>>;
  /**
   * Which of the equal slices of a fused weight are adapted, by name of the target: `{ c_attn: [true, false, true] }` gives
   * query and value adapters of rank R each.
   */
  readonly parts?: Readonly<Record<string, readonly boolean[]>>;
  /** Share of the adapter's input that is dropped in training, where `withDropout` gives a key; 0. Not for embeddings. */
  readonly dropout?: number;
  /** How the factors start; "kaiming". */
  readonly init?: AdapterInit;
  /** Whether the scale is alpha / √rank (Kalajdzievski, arXiv 2312.03732). */
  readonly rslora?: boolean;
  /** Whether the lengths of the weight's rows are learned apart (DoRA, arXiv 2402.09353). */
  readonly dora?: boolean;
  /** Which biases are trained too: of no layer, of every one, or of the targets; "none". */
  readonly bias?: "none" | "all" | "lora_only";
  /** Layers that are trained whole, such as a new head; a name takes the layers below it too. They are no targets. */
  readonly modulesToSave?: Selector;
  /** Whether weights are [in, out], in all targets but embeddings; by their names and sizes when absent. */
  readonly fanInFanOut?: boolean;
}

/** Throws for options that make no sense whatever the model. */
export function checkOptions(options: LoraOptions): void {
  const { alpha, alphaPattern = {}, dropout = 0, init = "kaiming" } = options;
  for (const value of [alpha, ...Object.values(alphaPattern)]) {
    if (value > 0 && value < Infinity) continue;
    throw new RangeError(
      `Cannot adapt with alpha ${value}: it must be a positive number`,
    );
  }
  if (!(dropout >= 0 && dropout < 1)) {
    throw new RangeError(
      `Cannot adapt with dropout ${dropout}: it must be at least 0 and below 1`,
    );
  }
  const isPissa = pissaIterations(init) !== null;
  if (!isPissa && init !== "kaiming" && init !== "gaussian") {
    throw new RangeError(
      `Cannot initialise adapters by "${init}": there are "kaiming", "gaussian", "pissa" and "pissa_niter_4" with any number`,
    );
  }
  const { bias = "none", name, dora } = options;
  if (!["none", "all", "lora_only"].includes(bias)) {
    throw new RangeError(
      `Cannot adapt with bias "${bias}": there are "none", "all" and "lora_only"`,
    );
  }
  checkName(name);
  if (isPissa && (dora || name !== undefined)) {
    throw new TreeError(
      `Cannot initialise adapters by "${init}" ${
        dora ? "for DoRA" : "beside others"
      }: it changes the weights that these rest on`,
    );
  }
}

/** Throws for a name that no adapter can have. */
export function checkName(name: string | undefined): void {
  if (name === undefined || isAdapterName(name)) return;
  throw new TreeError(
    `Cannot name an adapter "${name}": a name has no dot, and is no number or key of an adapter, such as "a" or "scale"`,
  );
}
