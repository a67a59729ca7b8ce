/**
 * Fused functions: one kernel on a backend that has it, and elsewhere their definition in plain primitives.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { call } from "./call.ts";
import { recompute } from "./checkpoint.ts";
import { pullbackOf, type VjpRule } from "./custom_vjp.ts";
import type { FusedSpec } from "./fused_spec.ts";
import type { Tree } from "./tree.ts";

/**
 * The function `f` as a node that a backend may have a kernel for. `f` closes over no tensor: the operands of the kernel
 * are the leaves of the arguments, in order, and its results those of the result. Without a rule the gradient is that of
 * `f`, which is computed again.
 */
export function fused<
  A extends readonly Tree[],
  R extends Tree,
  S extends Tree = Tree,
>(
  spec: FusedSpec,
  f: (...args: A) => R,
  rule: VjpRule<A, R, S> | null = null,
): (...args: A) => R {
  return (...args) =>
    call(
      f,
      args,
      (called) => rule ? pullbackOf(called, rule) : recompute(called.body),
      spec,
    );
}
