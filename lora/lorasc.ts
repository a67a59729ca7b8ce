/**
 * LoRASC: a cascade of fast adapters that are merged into slow weights (Li et al., arXiv 2407.01491).
 *
 * The paper confirms the cascade, the noise and the slow rate; the formulas are ours, where it gives none:
 *
 * S₀ = 0; in stage t a fresh adapter is trained on W = W₀ + Sₜ₋₁ + noise, F = scale · B A, and
 * Sₜ = decay · Sₜ₋₁ + slowRate · F.
 *
 * With decay 1 this is Lookahead (arXiv 1907.08610) whose fast weights are low-rank; with slowRate 1 and no noise too it is
 * COLA (arXiv 2401.04151), and with a rate that rises again in each stage (`rewarm` of `stagewise`) ReLoRA (arXiv
 * 2307.05695), but for ReLoRA's start of full training.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  random,
  scope,
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../core/mod.ts";
import { adaptersIn, type Lora, partsOf } from "../nn/adapter_forms.ts";
import { rowNorms } from "../nn/dora.ts";
import { formatWeight, isQuantized } from "../nn/quantized.ts";
import { withStage } from "./slow_adapter.ts";
import { kindOf, type Layer, layersOf, mapLayers, oriented } from "./layers.ts";
import { lora } from "./lora.ts";
import { adaptersOf, mapLoras } from "./loras.ts";
import { mergeAdapters } from "./merge.ts";
import type { LoraOptions } from "./options.ts";

/** What cannot be done, in errors. */
const WHAT = "go on with a cascade";

/** Settings of a cascade; those of its fast adapters are `lora`'s. */
export interface LorascOptions extends Omit<LoraOptions, "key"> {
  /** Share of a fast adapter that the slow weights take over, above 0 and at most 1; 0.7. */
  readonly slowRate?: number;
  /** What is kept of the slow change at each stage, from 0 to 1; 1. Averaging the changes, 1 - slowRate, forgets the task. */
  readonly decay?: number;
  /** Width λ of the noise: uniform within ±λ/2 deviations of each adapted matrix, as NoisyTune (arXiv 2202.12024); 0.15. */
  readonly noise?: number;
  /** Whether noise stays in the weights after its stage; false. Then the base moves, and a saved adapter fits the base of the state. */
  readonly persistent?: boolean;
  /** What becomes of the part (1 - slowRate) of a fast adapter: "drop", or "keep" to go on from in the next one; "drop". */
  readonly carry?: "drop" | "keep";
}

/** State of a cascade: a tree. */
export type CascadeState<T extends Tree = Tree> = {
  /** The model before the first stage. */
  readonly base: T;
  /** The base with the slow adapter: all stages so far side by side. The base itself before the first. */
  readonly slow: T;
  /** The base with the fast adapter of the stage, as it starts. */
  readonly fast: T;
};

/** A cascade: pure functions of its state. */
export interface Cascade {
  /** The state before the first stage; the key is for the first fast adapter. */
  init<T extends Tree>(params: T, key: Tensor): CascadeState<T>;
  /** The model that a stage trains: slow weights with noise from the key, and the fast adapter. Without a key no noise. */
  params<T extends Tree>(state: CascadeState<T>, key: Tensor | null): T;
  /** The state after a stage, from the model as it was trained; the key is for the next fast adapter. */
  next<T extends Tree>(
    state: CascadeState<T>,
    trained: T,
    key: Tensor,
  ): CascadeState<T>;
  /**
   * The base with the slow adapter, of rank stages · rank: what is saved by `savePeft`. `combineAdapters` with "svd" cuts it
   * to a rank, and tells what is lost.
   */
  adapter<T extends Tree>(state: CascadeState<T>): T;
  /** The slow weights W₀ + S, rounded once, without adapters: what is validated and served. */
  weights<T extends Tree>(state: CascadeState<T>): T;
}

/**
 * A cascade of fast adapters (LoRASC). Train `cascade.params(state, key)` in each stage, an epoch say, with the moments of
 * the optimizer started anew (see `stagewise`), then go on from `cascade.next(state, trained, key)`. Validate, save and
 * serve `cascade.weights(state)` or `cascade.adapter(state)`, never the noisy or the fast model.
 *
 * Shapes are the same in every stage, so one compiled step trains all of them. The defaults come from a trial of ours:
 * slowRate 0.7 forgets far less than 1, noise 0.15 helps a little. Throws `RangeError` for settings out of range, and
 * whatever `lora` throws.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, random, tree } from "cotan";
 * import { isAdapter, lorasc } from "cotan/lora";
 *
 * const cascade = lorasc({ targets: "q", rank: 1, alpha: 2, slowRate: 0.5, noise: 0 });
 * const start = cascade.init({ q: { weight: ones([2, 2]), bias: null } }, random.key(0));
 * const [adapters, frozen] = tree.partition(cascade.params(start, null), isAdapter);
 * const trained = tree.merge(tree.map((x) => ones(x.shape), adapters), frozen);
 * const state = cascade.next(start, trained, random.key(1));
 * assertEquals(await cascade.weights(state).q.weight.toArray(), [[2, 2], [2, 2]]);
 * ```
 */
export function lorasc(options: LorascOptions): Cascade {
  const {
    slowRate = 0.7,
    decay = 1,
    noise = 0.15,
    persistent = false,
    carry = "drop",
    ...adapter
  } = options;
  checkSettings({ slowRate, decay, noise, carry, dora: adapter.dora ?? false });

  function weights<T extends Tree>({ slow }: CascadeState<T>): T {
    return isAdapted(slow) ? mergeAdapters(slow) : slow;
  }

  function params<T extends Tree>(
    state: CascadeState<T>,
    key: Tensor | null,
  ): T {
    return scope(() => {
      const slow = weightsOf(weights(state));
      let place = 0;
      const started = onWeights(state.fast, (path) => {
        const weight = slow.get(path)!;
        return key && noise > 0
          ? weight.add(noiseOf(weight, noise, random.foldIn(key, place++)))
          : weight;
      });
      // A magnitude starts as the length that its row has now.
      return mapLoras(
        started,
        WHAT,
        (fast, path, layer) =>
          fast.magnitude
            ? { ...fast, magnitude: rowNorms(partOf(layer, fast, path)) }
            : fast,
      );
    });
  }

  function next<T extends Tree>(
    state: CascadeState<T>,
    trained: T,
    key: Tensor,
  ): CascadeState<T> {
    return scope(() => {
      const base = persistent ? noisyBase(state, trained) : state.base;
      const baseWeights = weightsOf(base);
      const onBase = onWeights(trained, (path) => baseWeights.get(path)!);
      const before = isAdapted(state.slow) ? lorasOf(state.slow) : new Map();
      const tuned = weightsOf(trained);
      const slow = mapLoras(
        onBase,
        WHAT,
        (fast, path, layer) =>
          withStage(before.get(path) ?? null, fast, {
            slowRate,
            decay,
            base: () => partOf(layer, fast, path),
            stage: () =>
              partOf({ ...layer, weight: tuned.get(layer.path)! }, fast, path),
          }),
      );
      return { base, slow, fast: nextFast(base, onBase, key) };
    });
  }

  /** New factors; copies of whole modules go on as they were trained. */
  function nextFast<T extends Tree>(base: T, onBase: T, key: Tensor): T {
    if (carry === "keep") {
      return mapLoras(onBase, WHAT, (fast) => ({
        ...fast,
        b: fast.b.mul(1 - slowRate),
      }));
    }
    const [factors] = trees.partition(
      lora(base, { ...adapter, key }),
      isFactor,
    );
    return trees.merge(factors, trees.partition(onBase, isFactor)[1]);
  }

  /** The base with the noise of the stage, which is what the trained weights have more than the slow ones. */
  function noisyBase<T extends Tree>(state: CascadeState<T>, trained: T): T {
    const noisy = weightsOf(trained), slow = weightsOf(weights(state));
    const adapted = new Set(adaptedPaths(trained));
    return mapLayers(state.base, (layer) => {
      const { path, node } = layer;
      if (!adapted.has(path)) return node;
      const noise = noisy.get(path)!.sub(slow.get(path)!);
      return { ...node, weight: tensorOf(layer).add(noise) };
    });
  }

  return {
    init: (params, key) => {
      const fast = lora(params, { ...adapter, key });
      const adapted = new Set(adaptedPaths(fast));
      layersOf(params).filter(({ path }) => adapted.has(path))
        .forEach(tensorOf);
      return { base: params, slow: params, fast };
    },
    params,
    next,
    adapter: ({ slow }) => {
      if (isAdapted(slow)) return slow;
      throw new TreeError(
        "Cannot give the slow adapter: no stage is done; use next",
      );
    },
    weights,
  };
}

/** Uniform within ±λ/2 deviations of the weight. */
function noiseOf(weight: Tensor, width: number, key: Tensor): Tensor {
  const noise = random.uniform(key, weight.shape, {
    min: -width / 2,
    max: width / 2,
  });
  return noise.mul(weight.variance().sqrt());
}

/** Whether a path is that of a low-rank factor or a magnitude, which each stage starts anew. */
function isFactor(path: string): boolean {
  return /(?:^|\.)lora\.(?:[^.]+\.)*(?:[ab]|magnitude)$/.test(path);
}

/** The weight [out, in] of a layer, or the slice of it that the adapter at a path changes. */
function partOf(layer: Layer, { b }: Lora, path: string): Tensor {
  const whole = oriented(tensorOf(layer), kindOf(layer));
  const size = b.shape[0]!, part = Number(path.split(".").at(-1));
  return whole.shape[0] === size
    ? whole
    : whole.slice([[part * size, (part + 1) * size]]);
}

/** The weight of an adapted layer as a tensor; throws where it is quantised, as noise and slow changes would be lost in it. */
function tensorOf({ path, weight }: Layer): Tensor {
  if (!isQuantized(weight)) return weight;
  throw new TreeError(
    `Cannot make a cascade on ${path}: its weight is ${
      formatWeight(weight)
    }, which takes no change; use dequantize first`,
  );
}

/** A tree with other weights in the layers that have low-rank adapters. */
function onWeights<T extends Tree>(
  tuned: T,
  weightAt: (path: string) => Tensor,
): T {
  const adapted = new Set(adaptedPaths(tuned));
  return mapLayers(
    tuned,
    ({ path, node }) =>
      adapted.has(path) ? { ...node, weight: weightAt(path) } : node,
  );
}

function weightsOf(tree: Tree): Map<string, Tensor> {
  return new Map(
    layersOf(tree).flatMap((layer) =>
      isQuantized(layer.weight) ? [] : [[layer.path, layer.weight] as const]
    ),
  );
}

function adaptedPaths(tree: Tree): string[] {
  return layersOf(tree).flatMap((layer) => {
    const adapters = adaptersOf(layer, WHAT);
    const parts = adapters ? adaptersIn(adapters).flatMap(partsOf) : [];
    return parts.length > 0 ? [layer.path] : [];
  });
}

function isAdapted(tree: Tree): boolean {
  return adaptedPaths(tree).length > 0;
}

function lorasOf(tree: Tree): Map<string, Lora> {
  const found = new Map<string, Lora>();
  mapLoras(tree, WHAT, (lora, path) => {
    found.set(path, lora);
    return lora;
  });
  return found;
}

function checkSettings(settings: {
  readonly slowRate: number;
  readonly decay: number;
  readonly noise: number;
  readonly carry: string;
  readonly dora: boolean;
}): void {
  const { slowRate, decay, noise, carry, dora } = settings;
  const fail = (rule: string): never => {
    throw new RangeError(`Cannot make a cascade with ${rule}`);
  };
  if (!(slowRate > 0 && slowRate <= 1)) {
    fail(`slowRate ${slowRate}: it must be above 0 and at most 1`);
  }
  if (!(decay >= 0 && decay <= 1)) {
    fail(`decay ${decay}: it must be from 0 to 1`);
  }
  if (!(noise >= 0 && noise < Infinity)) {
    fail(`noise ${noise}: it must be at least 0`);
  }
  if (carry !== "drop" && carry !== "keep") {
    fail(`carry "${carry}": there are "drop" and "keep"`);
  }
  if (dora && (decay !== 1 || carry === "keep")) {
    fail(
      `decay ${decay} and carry "${carry}" on DoRA: its changes are no sums; use decay 1 and carry "drop"`,
    );
  }
}
