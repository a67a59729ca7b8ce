/**
 * What plans of a Transformer in the shape of GPT-2 come to: kernels, memory, and the time that planning takes.
 *
 * Run it with `deno run -A bench/plans.ts`.
 *
 * @module
 */

import { init, jit, scope, type Tensor, valueAndGrad, zeros } from "cotan";
import { adamw, applyUpdates, chain, clipByGlobalNorm } from "cotan/nn";
import type { Program } from "../core/plan/describe.ts";
import {
  applyBlock,
  type Block,
  blockParams,
  type Model,
  modelLoss,
  modelParams,
  type Sizes,
} from "../tests/support/transformer.ts";

const B = 2;
const sizes: Sizes = { C: 64, H: 4, T: 32, V: 128, layers: 4 };
const ids = (): Tensor => zeros([B, sizes.T], { dtype: "i32" });

/** The program of a function, and the seconds from its call to its plan. */
function planned<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  args: readonly [...A],
  donate: readonly number[] = [],
): [Program, number] {
  using jitted = jit(f, { donate });
  const start = performance.now();
  return [jitted.program(...args), (performance.now() - start) / 1000];
}

function block(isFused: boolean): [Program, number] {
  const x = zeros([B, sizes.T, sizes.C]);
  const loss = ({ p, x }: { p: Block; x: Tensor }, ct: Tensor) =>
    applyBlock(sizes, p, x).mul(ct).sum();
  return planned(
    (p: Block, x: Tensor, ct: Tensor) => valueAndGrad(loss)({ p, x }, ct),
    [blockParams(sizes, isFused), x, x],
  );
}

function gradients(layers: number): [Program, number] {
  const loss = (p: Model, x: Tensor, y: Tensor) => modelLoss(sizes, p, x, y);
  return planned(
    (p: Model, x: Tensor, y: Tensor) => valueAndGrad(loss)(p, x, y),
    [modelParams({ ...sizes, layers }), ids(), ids()],
  );
}

function step(isClipped: boolean): [Program, number] {
  const update = adamw({ learningRate: 1e-3 });
  const { init, update: next } = isClipped
    ? chain(clipByGlobalNorm(1), update)
    : chain(update);
  const params = modelParams(sizes), start = init(params);
  const loss = (p: Model, x: Tensor, y: Tensor) => modelLoss(sizes, p, x, y);
  return planned(
    (p: Model, s: typeof start, x: Tensor, y: Tensor) => {
      const { value, grads } = valueAndGrad(loss)(p, x, y);
      const { updates, state } = next(grads, s as never, p);
      return { params: applyUpdates(p, updates), state, value };
    },
    [params, start, ids(), ids()],
    [0, 1],
  );
}

for (const backend of ["wasm", "webgpu"] as const) {
  await init({ backend });
  console.log(`${backend}:`);
  scope(() => {
    const plans = {
      "block, one matrix for q, k and v": block(true),
      "block, three of them": block(false),
      "gradients of 4 layers": gradients(4),
      "AdamW step of 4 layers": step(false),
      "clipped AdamW step of 4 layers": step(true),
      "gradients of 12 layers": gradients(12),
    };
    for (const [name, [program, seconds]] of Object.entries(plans)) {
      const { kernels, slots, arenaBytes } = program;
      console.log(
        `${name.padEnd(34)} ${kernels.length} kernels, ${slots} slots in ${
          (arenaBytes / 2 ** 20).toFixed(2)
        } MiB, ${seconds.toFixed(2)} s`,
      );
    }
  });
}
