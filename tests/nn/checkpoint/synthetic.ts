/**
 * Model folders of any size with random weights, written without holding them.
 *
 * @module
 */

import { encodeHeader } from "../../../nn/checkpoint/safetensors_header.ts";
import { modelFromConfig, type RawConfig } from "../../../nn/models/mod.ts";

/** GPT-2 small: 124 million parameters. */
export const SMALL = {
  architectures: ["GPT2LMHeadModel"],
  model_type: "gpt2",
  vocab_size: 50257,
  n_positions: 1024,
  n_embd: 768,
  n_layer: 12,
  n_head: 12,
};

/** Writes a model's folder with bf16 weights in a number of shards; returns the number of parameters. */
export async function writeSynthetic(
  folder: string,
  config: RawConfig,
  shards: number,
): Promise<number> {
  const entries = Object.entries(modelFromConfig(config).shapes).map((
    [name, shape],
  ) => ({
    name,
    dtype: "BF16" as const,
    shape,
    bytes: 2 * shape.reduce((a, b) => a * b, 1),
  }));
  // Numbers of either sign around 0.01.
  const noise = new Uint16Array(2 ** 18).map((_, i) =>
    0x3c00 + (i * 2654435761 >>> 25) + (i % 3 === 0 ? 0x8000 : 0)
  );
  const map: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${shard + 1}.safetensors`;
    const own = entries.filter((_, i) =>
      Math.floor(i * shards / entries.length) === shard
    );
    using out = await Deno.open(`${folder}/${file}`, {
      write: true,
      create: true,
    });
    await out.write(encodeHeader({ entries: own, metadata: {} }));
    for (const { name, bytes } of own) {
      map[name] = file;
      for (let left = bytes; left > 0;) {
        const piece = new Uint8Array(noise.buffer, 0, Math.min(left, 2 ** 19));
        left -= await out.write(piece);
      }
    }
  }
  const write = (name: string, json: unknown): Promise<void> =>
    Deno.writeTextFile(`${folder}/${name}`, JSON.stringify(json));
  await write("config.json", config);
  await write("model.safetensors.index.json", { weight_map: map });
  return entries.reduce((sum, { bytes }) => sum + bytes / 2, 0);
}
