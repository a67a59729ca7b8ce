/**
 * What a report on adapters tells.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Shape } from "../core/mod.ts";

/** Adapters of layers of one name, shape, rank and scale. */
export interface ReportRow {
  /** Last name of the layers' paths; of copies with ".weight" or ".bias". */
  readonly target: string;
  /** Name of the adapter, where they have names. */
  readonly name: string | null;
  /** Numbers of the adapted slices, and of how many; null where the whole weight is adapted. */
  readonly slices:
    | { readonly of: number; readonly at: readonly number[] }
    | null;
  /** Number of layers. */
  readonly layers: number;
  /** Their paths. */
  readonly paths: readonly string[];
  /** Shape of a layer's weight, or of the copy. */
  readonly weight: Shape;
  /** Rank of an adapter, of each slice; null for copies. */
  readonly rank: number | null;
  /** The scale in force: alpha / rank, or alpha / √rank for rsLoRA; null for copies, and for stacks of several. */
  readonly scale: number | null;
  /** What gives that scale, as far as it can be told. */
  readonly alpha: number | null;
  /** Trainable parameters of all of them. */
  readonly parameters: number;
  /** The same in percent of the model's. */
  readonly percent: number;
}

/** Bytes that training the adapters takes. */
export interface ReportBytes {
  /** Of their values. */
  readonly weights: number;
  /** Of their gradients. */
  readonly gradients: number;
  /** Of the two moments of Adam. */
  readonly moments: number;
}

/** The adapters of a model. */
export interface Report {
  /** A row per kind of target. */
  readonly rows: readonly ReportRow[];
  /** Number of layers that have an adapter or a copy. */
  readonly layers: number;
  /** Trainable parameters of all adapters. */
  readonly parameters: number;
  /** Parameters of the model without adapters. */
  readonly modelParameters: number;
  /** Parameters of the adapters in percent of the model's. */
  readonly percent: number;
  /** Whether the scales are those of rsLoRA. */
  readonly rslora: boolean;
  /** Memory of what is trained. */
  readonly bytes: ReportBytes;
  /** What is likely a mistake, a sentence each. */
  readonly warnings: readonly string[];
  /** The table. */
  toString(): string;
}
