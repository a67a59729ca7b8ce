/**
 * The forms of adapters in the nodes of layers: of a weight, of its slices, copies of tensors, and several by name.
 *
 * Letters: B batch, R rank, N adapters of a stack; `in` and `out` are the features of the layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tensor, TreeError } from "../core/mod.ts";

/** Trained copies of a node's own tensors, which stand in for them. */
export type Saved = {
  /** In the place of the node's weight. */
  readonly weight?: Tensor | null;
  /** In the place of the node's bias. */
  readonly bias?: Tensor | null;
};

/** A low-rank adapter (LoRA, arXiv 2106.09685): the weight changes by scale · b a. */
export type Lora = Saved & {
  /** [R, in]; of a stack [N, R, in]. */
  readonly a: Tensor;
  /** [out, R]; of a stack [N, out, R]. */
  readonly b: Tensor;
  /** Scalar, alpha / R in the paper; of a stack [N]. */
  readonly scale: Tensor;
  /** DoRA's magnitudes (arXiv 2402.09353): the lengths of the rows of the adapted weight, [out]. */
  readonly magnitude?: Tensor;
  /** How many of the R ranks are in use, the first ones: an i32 scalar that may be traced; all when absent. */
  readonly rank?: Tensor;
  /** The ranks that DyLoRA trains: i32. */
  readonly ranks?: Tensor;
  /** Ranks before this one take part but do not learn: an i32 scalar that may be traced; 0 when absent. */
  readonly from?: Tensor;
  /** Share of the adapter's input that is dropped where there is a key: a scalar; 0 when absent. */
  readonly rate?: Tensor;
  /** Key of the draw of what is dropped, u32 [2]; without one nothing is. */
  readonly key?: Tensor;
  /** Which adapter of a stack serves each row of the batch: i32 [B]. */
  readonly rows?: Tensor;
};

/** Adapters of the equal slices of a fused weight, such as query, key and value in one; null for a slice without. */
export type SlicedLora = readonly (Lora | null)[];

/** One adapter of a node: of the weight, of its slices, or copies alone. */
export type Adapter =
  | Lora
  | SlicedLora
  | Saved
  | Saved & {
    /** The slices, where copies stand beside them. */
    readonly slices: SlicedLora;
  };

/** What a node carries as `lora`: an adapter, or several by name, which add up. */
export type Adapters = Adapter | { readonly [name: string]: Adapter };

/** Keys of the record of one adapter, which cannot be names of adapters. */
const KEYS =
  /^(?:a|b|scale|magnitude|ranks?|from|rate|key|rows|weight|bias|slices|\d+)$/;

/** Whether a text can name an adapter: one segment of a path, and no number or key of an adapter's record. */
export function isAdapterName(name: string): boolean {
  return /^[^.]+$/.test(name) && !KEYS.test(name);
}

/** Whether adapters stand by name. */
export function isNamed(
  adapters: Adapters,
): adapters is { readonly [name: string]: Adapter } {
  return !Array.isArray(adapters) && Object.keys(adapters).every(isAdapterName);
}

/** The adapters of a node, whether they have names or not. */
export function adaptersIn(adapters: Adapters): readonly Adapter[] {
  return isNamed(adapters) ? Object.values(adapters) : [adapters];
}

/** The slices that an adapter changes, or the one whole; none where it has copies alone. */
export function partsOf(adapter: Adapter): SlicedLora {
  if (isSliced(adapter)) return adapter;
  if ("slices" in adapter) return adapter.slices;
  return "a" in adapter ? [adapter] : [];
}

/** The copies that an adapter brings. */
export function savedIn(adapter: Adapter): Saved {
  return isSliced(adapter) ? {} : adapter;
}

function isSliced(adapter: Adapter): adapter is SlicedLora {
  return Array.isArray(adapter);
}

/**
 * What a node computes with: the copies that its adapter brings, else its own tensors. Throws `TreeError` where two
 * adapters bring copies of the same tensor.
 */
export function inForce<W, B>(
  own: { readonly weight: W; readonly bias?: B; readonly lora?: Adapters },
): { readonly weight: W | Tensor; readonly bias?: B | Tensor } {
  if (!own.lora) return own;
  const saved = adaptersIn(own.lora).map(savedIn);
  const copy = (key: keyof Saved) => {
    const [first, second] = saved.flatMap((s) => s[key] ?? []);
    if (!second) return first;
    throw new TreeError(
      `Cannot apply a layer whose adapters bring two copies of its ${key}: choose one of them by activate`,
    );
  };
  const weight = copy("weight") ?? own.weight, bias = copy("bias") ?? own.bias;
  return bias === undefined ? { weight } : { weight, bias };
}
