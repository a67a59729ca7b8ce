/**
 * A program that does nothing to a state as large as that of training: what a call of a jitted function costs.
 *
 * @module
 */

import { jit, ones, scope, type Tree } from "cotan";

/** Four trees as a model of 25 blocks has them: parameters, gradients and the moments of an optimizer. */
function trainingState(): Tree[] {
  const linear = () => ({ weight: ones([2, 2]), bias: null });
  const block = () => ({
    self_attn: {
      q_proj: linear(),
      k_proj: linear(),
      v_proj: linear(),
      o_proj: linear(),
    },
    mlp: { up_proj: linear(), down_proj: linear() },
  });
  const model = () => ({
    model: { layers: Array.from({ length: 25 }, block) },
  });
  return scope(() => [model(), model(), model(), model()]);
}

/** A call that passes a state through a program without kernels. */
export function passing(): () => void {
  const pass = jit((...state: Tree[]) => state, { donate: [0, 1, 2, 3] });
  let state = trainingState();
  return () => {
    state = pass(...state);
  };
}
