/**
 * Activations by the names that config.json gives them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError, type Tensor } from "../../core/mod.ts";

/** An elementwise function. */
export type Activation = (x: Tensor) => Tensor;

const gelu: Activation = (x) => x.gelu();
const geluTanh: Activation = (x) => x.gelu({ approximate: "tanh" });
const silu: Activation = (x) => x.silu();

const activations: Readonly<Record<string, Activation>> = {
  gelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  gelu_fast: geluTanh,
  quick_gelu: (x) => x.mul(x.mul(1.702).sigmoid()),
  relu: (x) => x.relu(),
  silu,
  swish: silu,
  tanh: (x) => x.tanh(),
};

/** The names that are known. */
export const activationNames: readonly string[] = Object.keys(activations);

/** The activation of a name; throws `FormatError` for another, and lists those there are. */
export function activationOf(name: string): Activation {
  if (Object.hasOwn(activations, name)) return activations[name]!;
  throw new FormatError(
    `Cannot find the activation ${JSON.stringify(name)}: there are ${
      activationNames.join(", ")
    }`,
  );
}
