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
import type { StageBuilder } from "./stages.ts";

/** The functions that `emitFused` has code for. */
export const fusedKinds: ReadonlySet<FusedKind> = new Set<FusedKind>();

/** Emits the stages of a fused function; gives how many of the shared functions these need. */
export function emitFused(
  _stages: StageBuilder,
  { spec }: FusedKernel,
): number {
  switch (spec.kind) {
    case "attention":
    case "attentionGrad":
      invariant(false, `there is no code for ${spec.kind}`);
  }
}
