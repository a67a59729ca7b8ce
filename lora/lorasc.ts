/**
 * LoRASC: a cascade of fast adapters that are merged into slow weights (Li et al., arXiv 2407.01491).
 *
 * The paper confirms the cascade, the noise and the slow rate; the formulas are ours, where it gives none:
 *
 * S₀ = 0; in stage t a fresh adapter is trained on W = W₀ + Sₜ₋₁ + noise, F = scale · B A, and
 * Sₜ = decay · Sₜ₋₁ + slowRate · F.
 *
 * With decay 1 this is Lookahead (arXiv 1907.08610) whose fast weights are low-rank; with slowRate 1 and no noise too it is
 * COLA (arXiv 2401.04151).
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  concat,
  random,
  scope,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import { layersOf, mapLayers } from "./layers.ts";
import { lora } from "./lora.ts";
import { mapLoras } from "./loras.ts";
import { mergeAdapters } from "./merge.ts";
import type { LoraOptions } from "./options.ts";

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
  /** The base with the slow adapter, of rank stages · rank: what is saved by `savePeft`. */
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
  checkSettings(slowRate, decay, noise, carry);

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
      return onWeights(state.fast, (path) => {
        const weight = slow.get(path)!;
        return key && noise > 0
          ? weight.add(noiseOf(weight, noise, random.foldIn(key, place++)))
          : weight;
      });
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
      const slow = mapLoras(
        onBase,
        "go on with a cascade",
        (fast, path) => joined(before.get(path) ?? null, fast),
      );
      return { base, slow, fast: nextFast(base, onBase, key) };
    });
  }

  /** The slow adapter with a part of a fast one beside it. */
  function joined(slow: Lora | null, fast: Lora): Lora {
    const b = fast.b.mul(fast.scale.mul(slowRate));
    if (!slow) return { a: fast.a, b, scale: tensor(1) };
    return {
      a: concat([slow.a, fast.a]),
      b: concat([slow.b.mul(decay), b], { axis: 1 }),
      scale: slow.scale,
    };
  }

  function nextFast<T extends Tree>(base: T, onBase: T, key: Tensor): T {
    if (carry === "drop") return lora(base, { ...adapter, key });
    return mapLoras(onBase, "go on with a cascade", (fast) => ({
      ...fast,
      b: fast.b.mul(1 - slowRate),
    }));
  }

  /** The base with the noise of the stage, which is what the trained weights have more than the slow ones. */
  function noisyBase<T extends Tree>(state: CascadeState<T>, trained: T): T {
    const noisy = weightsOf(trained), slow = weightsOf(weights(state));
    const adapted = new Set(adaptedPaths(trained));
    return mapLayers(
      state.base,
      ({ path, node, weight }) =>
        adapted.has(path)
          ? {
            ...node,
            weight: weight.add(noisy.get(path)!.sub(slow.get(path)!)),
          }
          : node,
    );
  }

  return {
    init: (params, key) => ({
      base: params,
      slow: params,
      fast: lora(params, { ...adapter, key }),
    }),
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

/** A tree with other weights in its adapted layers. */
function onWeights<T extends Tree>(
  tuned: T,
  weightAt: (path: string) => Tensor,
): T {
  return mapLayers(
    tuned,
    ({ path, node }) => node.lora ? { ...node, weight: weightAt(path) } : node,
  );
}

function weightsOf(tree: Tree): Map<string, Tensor> {
  return new Map(layersOf(tree).map(({ path, weight }) => [path, weight]));
}

function adaptedPaths(tree: Tree): string[] {
  return layersOf(tree).flatMap(({ path, node }) => node.lora ? [path] : []);
}

function isAdapted(tree: Tree): boolean {
  return adaptedPaths(tree).length > 0;
}

function lorasOf(tree: Tree): Map<string, Lora> {
  const found = new Map<string, Lora>();
  mapLoras(tree, "read adapters", (lora, path) => {
    found.set(path, lora);
    return lora;
  });
  return found;
}

function checkSettings(
  slowRate: number,
  decay: number,
  noise: number,
  carry: string,
): void {
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
}
