/**
 * Attention that hides nothing, by the kernels of the wasm backend and as it is defined: the value, and value and
 * gradient.
 *
 * @module
 */

import { grad, jit, random, type Tensor } from "cotan";
import { attention } from "cotan/nn";
import { benchOn, settle } from "./backends.ts";

/** Heads of all examples, and channels of each. */
const H = 12, D = 64;

const ways = {
  "stored scores": (q: Tensor, k: Tensor, v: Tensor) =>
    q.matmul(k.transpose([0, 1, 3, 2])).mul(D ** -0.5).softmax().matmul(v),
  kernels: (q: Tensor, k: Tensor, v: Tensor) => attention(q, k, v),
};

type Heads = { readonly q: Tensor; readonly k: Tensor; readonly v: Tensor };

for (const T of [128, 256, 512, 1024]) {
  for (const isGradient of [false, true]) {
    for (const [name, attend] of Object.entries(ways)) {
      const work = isGradient ? "value and gradient" : "value";
      const label = `${name}, ${work}, ${H} heads of ${T} x ${D}`;
      benchOn("wasm", `${work} of ${T} tokens`, label, () => {
        // As projections give them: heads next to each other.
        const [q, k, v] = [0, 1, 2].map((seed) =>
          random.normal(random.key(seed), [1, T, H, D])
        ) as [Tensor, Tensor, Tensor];
        const value = ({ q, k, v }: Heads) => {
          const heads = [q, k, v].map((x) => x.transpose([0, 2, 1, 3]));
          return attend(...heads as [Tensor, Tensor, Tensor]);
        };
        const compute = jit((p: Heads) => {
          if (!isGradient) return [value(p)];
          const slopes = grad((p: Heads) => value(p).square().sum())(p);
          return [slopes.q, slopes.k, slopes.v];
        });
        return Promise.resolve(async () => {
          const [first, ...others] = compute({ q, k, v });
          for (const other of others) other.dispose();
          await settle(first!);
        });
      }, name !== "kernels");
    }
  }
}
