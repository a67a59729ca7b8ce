/**
 * Fused functions as WebAssembly: which ones there is code for.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { invariant } from "../errors.ts";
import type { FusedKind } from "../fused_spec.ts";
import type { FusedKernel } from "../plan/kernel.ts";
import { emitHeadGradient } from "./head_gradient.ts";
import { emitHeadLoss } from "./head_loss.ts";
import type { StageBuilder } from "./stages.ts";

/** The functions that `emitFused` has code for. */
export const fusedKinds: ReadonlySet<FusedKind> = new Set<FusedKind>([
  "headLoss",
  "headGradient",
]);

/** Emits the stages of a fused function; gives how many of the shared functions these need. */
export function emitFused(
  stages: StageBuilder,
  kernel: FusedKernel,
): number {
  const { spec } = kernel;
  switch (spec.kind) {
    case "headLoss":
      return emitHeadLoss(stages, kernel);
    case "headGradient":
      return emitHeadGradient(stages, kernel);
    case "attention":
    case "attentionGrad":
      invariant(false, `there is no code for ${spec.kind}`);
  }
}
