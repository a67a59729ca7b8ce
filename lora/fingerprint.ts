/**
 * Fingerprints of weights, by which a file of adapters knows the model that it was made for.
 *
 * @module
 */

import { concat, scope, type Tensor } from "../core/mod.ts";
import { rowsOf, shapeOf, type Weight } from "../nn/quantized.ts";

/** Key of the fingerprint in the metadata of a safetensors file. */
export const FINGERPRINT = "cotan.base";

/** How many elements of a weight count. */
const SAMPLE = 32;

/** Hexadecimal digits of a fingerprint. */
const DIGITS = 16;

/** A weight by the name that it has whatever the tree. */
export interface NamedWeight {
  /** Its name. */
  readonly name: string;
  /** Its values. */
  readonly weight: Weight;
}

/**
 * A fingerprint of names, shapes, and some values of the middle row of each weight: models that differ in training differ
 * there too. Only these values are read back from the backend, at once.
 */
export async function fingerprintOf(
  weights: readonly NamedWeight[],
): Promise<string> {
  const sorted = weights.toSorted((x, y) => x.name < y.name ? -1 : 1);
  const names = sorted.map(({ name, weight }) =>
    `${name} ${shapeOf(weight)}\n`
  );
  using sample = scope(() => concat(sorted.map(({ weight }) => some(weight))));
  const values = Float32Array.from(await sample.data());
  const bytes = await new Blob([...names, values]).arrayBuffer();
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return new Uint8Array(hash).toHex().slice(0, DIGITS);
}

/** Some elements of the middle row. */
function some(weight: Weight): Tensor {
  const [rows = 0] = shapeOf(weight);
  const row = rowsOf(weight, Math.floor(rows / 2), Math.min(rows, 1));
  return row.reshape([-1]).slice([[0, Math.min(SAMPLE, row.shape[0]!)]]);
}
