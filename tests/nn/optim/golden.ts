/**
 * The reference data of optimizers.
 *
 * @module
 */

import type { Tensor } from "cotan";
import { readJson, readTensors, upload } from "../../support/golden.ts";

export { hasGolden } from "../../support/golden.ts";

/** Settings, learning rates and norms. */
export interface Settings {
  readonly steps: number;
  readonly optimizers: Record<string, Record<string, number | number[]>>;
  readonly clip_grad_norm: {
    readonly id: string;
    readonly max_norm: number;
    readonly total_norm: number;
  }[];
  readonly schedules: {
    readonly warmup: number;
    readonly total: number;
    readonly base_lr: number;
    readonly linear: number[];
    readonly cosine: number[];
    readonly constant: number[];
    readonly polynomial2: number[];
  };
}

/** Reads the settings. */
export function readSettings(): Settings {
  return readJson("golden/optim/optim.json");
}

/** Uploads the tensors, by name. */
export function uploadTensors(): Map<string, Tensor> {
  const files = [...readTensors("golden/optim/optim.safetensors")];
  return new Map(files.map(([name, value]) => [name, upload(value)]));
}
