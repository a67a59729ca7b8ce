/**
 * Fused functions as WebAssembly: which ones there is code for.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { FusedKind } from "../fused_spec.ts";
import type { FusedKernel } from "../plan/kernel.ts";
import { emitAttention } from "./attention.ts";
import { emitAttentionGrad } from "./attention_grad.ts";
import { emitHeadGradient } from "./head_gradient.ts";
import { emitHeadLoss } from "./head_loss.ts";
import { sharedNumbers } from "./shared.ts";
import type { StageBuilder } from "./stages.ts";

/** The functions that `emitFused` has code for. */
export const fusedKinds: ReadonlySet<FusedKind> = new Set<FusedKind>([
  "attention",
  "attentionGrad",
  "headLoss",
]);

/** Emits the stages of a fused function; gives how many of the shared functions these need. */
export function emitFused(stages: StageBuilder, kernel: FusedKernel): number {
  // Packers and products of f32 come before those of halves.
  const wide = sharedNumbers().columns + 1;
  const { spec } = kernel;
  switch (spec.kind) {
    case "attention":
      emitAttention(stages, { ...kernel, spec });
      return wide;
    case "attentionGrad":
      emitAttentionGrad(stages, { ...kernel, spec });
      return wide;
    case "headLoss": {
      const isTrained = kernel.results[3] || kernel.results[4];
      return (isTrained ? emitHeadGradient : emitHeadLoss)(stages, kernel);
    }
  }
}
