/**
 * Adapters in the forms that PEFT has: of whole weights, and copies of a layer's own tensors.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, pad, type Tensor, TreeError, zeros } from "../core/mod.ts";
import {
  type Adapter,
  type Lora,
  partsOf,
  savedIn,
  type SlicedLora,
} from "../nn/adapter_forms.ts";
import { rowNorms } from "../nn/dora.ts";
import { dense } from "../nn/quantized.ts";
import { kindOf, type Layer, oriented } from "./layers.ts";
import type { TensorKey } from "./peft_tensors.ts";

/** An adapter in PEFT's form. */
export interface PlainAdapter {
  /** Its tensors. */
  readonly leaves: { readonly [key in TensorKey]?: Tensor };
  /** Scales that must be one; none where there are no factors. */
  readonly scales: readonly Tensor[];
  /** Rates of dropout that must be one. */
  readonly rates: readonly Tensor[];
}

/** The adapter of a layer in PEFT's form. Throws `TreeError` where it has none. */
export function plainAdapter(layer: Layer, adapter: Adapter): PlainAdapter {
  const parts = partsOf(adapter);
  const loras = parts.filter((lora) => lora !== null);
  for (const lora of loras) refuse(layer, whyNotPlain(lora));
  const { weight, bias = weight && layer.node.bias } = savedIn(adapter);
  if (weight && loras.length > 0) {
    refuse(layer, "brings a whole weight beside factors; PEFT has one of them");
  }
  const { a, b, magnitude } = parts.length > 1
    ? fused(parts, layer)
    : parts[0] ?? {} as Partial<Lora>;
  return {
    leaves: {
      ...(a && { a }),
      ...(b && { b }),
      ...(magnitude && { magnitude }),
      ...(weight && { weight }),
      ...(bias && { bias: bias as Tensor }),
    },
    scales: loras.map(({ scale }) => scale),
    rates: loras.flatMap(({ rate }) => rate ?? []),
  };
}

function refuse({ path }: Layer, why: string | null): void {
  if (why === null) return;
  throw new TreeError(`Cannot save adapters: the one at ${path} ${why}`);
}

function whyNotPlain({ a, rows, rank, ranks, from }: Lora): string | null {
  if (rows || a.shape.length === 3) {
    return "is a stack, of which each row of a batch has one; save those that it was made of";
  }
  return rank || ranks || from
    ? "is of DyLoRA, which has many ranks in one; use truncate first"
    : null;
}

/**
 * The adapter [R₁ + … , in] of a whole weight that changes it as those of its slices do: factors a below one another, and
 * factors b as blocks on the diagonal, with zeros in the rows of slices without one.
 */
function fused(
  parts: SlicedLora,
  layer: Layer,
): Pick<Lora, "a" | "b" | "magnitude"> {
  const loras = parts.filter((lora) => lora !== null);
  const size = loras[0]!.b.shape[0]!;
  const rank = loras.reduce((sum, { a }) => sum + a.shape[0]!, 0);
  let before = 0;
  const blocks = parts.map((lora) => {
    if (!lora) return zeros([size, rank]);
    const own = lora.a.shape[0]!, at = before;
    before += own;
    return pad(lora.b, [[0, 0], [at, rank - at - own]]);
  });
  const weight = () => oriented(dense(layer.weight), kindOf(layer));
  // A slice without an adapter keeps the lengths that its rows have.
  const lengths = () =>
    concat(
      parts.map((lora, i) =>
        lora?.magnitude ??
          rowNorms(weight().slice([[i * size, (i + 1) * size]]))
      ),
    );
  return {
    a: concat(loras.map(({ a }) => a)),
    b: concat(blocks),
    ...(loras.some(({ magnitude }) => magnitude) && { magnitude: lengths() }),
  };
}
