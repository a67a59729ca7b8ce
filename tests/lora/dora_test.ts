/**
 * DoRA against its dense formula.
 *
 * @module
 */

import { assert } from "@std/assert";
import { grad, random, type Tensor, tensor } from "cotan";
import { lora } from "cotan/lora";
import { conv1D, linear, type Lora } from "cotan/nn";
import { inFloat64 } from "../support/backends.ts";
import { distance } from "./support.ts";

/** DoRA by its definition: m / ‖V‖ · V for V = W + s b a, the norm held fixed. */
function denseDora(
  { weight, lora }: {
    weight: Tensor;
    lora: Required<Pick<Lora, "a" | "b" | "scale" | "magnitude">>;
  },
  x: Tensor,
): Tensor {
  const v = weight.add(lora.b.matmul(lora.a).mul(lora.scale));
  const length = v.square().sum({ axis: 1, keepDims: true }).sqrt();
  const gain = lora.magnitude.unsqueeze(1).div(length.stopGradient());
  return x.matmul(v.mul(gain).transpose());
}

inFloat64(
  "DoRA is its dense formula, and so are its gradients, in both kinds of layers",
  async () => {
    const draw = (seed: number, shape: number[]) =>
      random.normal(random.key(seed), shape);
    const weight = draw(1, [5, 4]), x = draw(2, [3, 4]), ct = draw(3, [3, 5]);
    const own = {
      a: draw(4, [2, 4]),
      b: draw(5, [5, 2]),
      scale: tensor(0.75),
      magnitude: draw(6, [5]).abs(),
    };
    type P = { weight: Tensor; lora: typeof own; x: Tensor };
    const dense = (p: P) => denseDora(p, p.x).mul(ct).sum();
    const forms = {
      linear: (p: P) => linear(p, p.x).mul(ct).sum(),
      conv1D: (p: P) =>
        conv1D({ ...p, weight: p.weight.transpose() }, p.x).mul(ct).sum(),
    };
    const { scale: _, ...expected } =
      grad(dense)({ weight, lora: own, x }).lora;
    const value = await dense({ weight, lora: own, x }).item();
    const { x: gx, weight: gw } = grad(dense)({ weight, lora: own, x });
    for (const [name, f] of Object.entries(forms)) {
      assert(
        Math.abs(await f({ weight, lora: own, x }).item() / value - 1) < 1e-12,
      );
      const found = grad(f)({ weight, lora: own, x });
      assert(distance(await found.x.data(), await gx.data()) < 1e-12, name);
      const weights = [await found.weight.data(), await gw.data()] as const;
      assert(distance(...weights) < 1e-12, name);
      for (const key of ["a", "b", "magnitude"] as const) {
        const [g, e] = [
          await found.lora[key].data(),
          await expected[key].data(),
        ];
        assert(distance(g, e) < 1e-12, `${name} ${key}`);
      }
    }
  },
);

inFloat64(
  "DoRA's magnitudes start as the lengths of the weight's rows",
  async () => {
    const params = { fc: { weight: random.normal(random.key(1), [5, 4]) } };
    const tuned = lora(params, {
      targets: "fc",
      rank: 2,
      alpha: 4,
      key: random.key(0),
      dora: true,
    }) as unknown as { fc: { lora: { magnitude: Tensor } } };
    const lengths = params.fc.weight.square().sum({ axis: 1 }).sqrt();
    assert(
      distance(await tuned.fc.lora.magnitude.data(), await lengths.data()) <
        1e-14,
    );
  },
);
