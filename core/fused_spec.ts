/**
 * Which functions some backends compute with one kernel, as data: what a kernel must know beside the types of its operands.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Attention; see `core/math/attention.ts`, whose composite definitions say what its kernels compute. */
export interface AttentionSpec {
  /** The function, or its gradient. */
  readonly kind: "attention" | "attentionGrad";
  /** What scores are multiplied by. */
  readonly scale: number;
  /** Whether the query at position t sees only keys up to t. */
  readonly causal: boolean;
  /** How many keys back a causal query sees, itself included; Infinity for all. */
  readonly window: number;
  /** Position of the first query among the keys, for causal ones; null where the last operand has it, i32 [..., 1]. */
  readonly position: number | null;
  /** Whether an operand behind the others, but before a position, tells which keys are hidden. */
  readonly masked: boolean;
}

/** The loss of a head, and its gradients; see `core/math/scores.ts`. */
export interface HeadSpec {
  /** The function. */
  readonly kind: "headLoss";
}

/** A function that a backend may have a kernel for. */
export type FusedSpec = AttentionSpec | HeadSpec;

/** Which function that is. */
export type FusedKind = FusedSpec["kind"];

/** Whether operands and results may all have more axes in front: of a batch of calls one kernel is made too. */
export const takesBatches: Readonly<Record<FusedKind, boolean>> = {
  attention: true,
  attentionGrad: true,
  headLoss: false,
};

/** How many of its results kernels give; a call of which another is read is inlined. */
export const resultsOf: Readonly<Record<FusedKind, number>> = {
  attention: 2,
  attentionGrad: 3,
  headLoss: 5,
};
