/**
 * The reference data of optimizers, from the folder shared by those who build Cotan.
 *
 * @module
 */

import { type Tensor, tensor } from "cotan";

const folder = new URL("../../../shared/golden/optim/", import.meta.url);

/** Whether the reference data are there. */
export const hasGolden: boolean = (() => {
  try {
    return Deno.statSync(folder).isDirectory;
  } catch {
    return false;
  }
})();

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
  };
}

/** Reads the settings, and the tensors by name. */
export async function readGolden(): Promise<
  { settings: Settings; tensors: Map<string, Tensor> }
> {
  const text = await Deno.readTextFile(new URL("optim.json", folder));
  const bytes = await Deno.readFile(new URL("optim.safetensors", folder));
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header: Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  > = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [start, end] = entry.data_offsets.map((at) => 8 + length + at);
    const data = new Float32Array(bytes.slice(start, end).buffer);
    tensors.set(name, tensor(data, { shape: entry.shape }));
  }
  return { settings: JSON.parse(text), tensors };
}
