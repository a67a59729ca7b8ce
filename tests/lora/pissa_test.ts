/**
 * PiSSA: what it starts as, and what it comes to as an ordinary adapter.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { random, type Tensor, tensor, TreeError, zeros } from "cotan";
import {
  type AdapterInit,
  dropAdapters,
  fromPissa,
  lora,
  mergeAdapters,
} from "cotan/lora";
import { linear, type Lora } from "cotan/nn";
import { inFloat64 } from "../support/backends.ts";
import {
  adaptGpt,
  distance,
  gpt,
  gptParams,
  moved,
  outputs,
  queryAndValue,
} from "./support.ts";

inFloat64(
  "PiSSA takes the principal part out of the weight, in its singular vectors",
  async () => {
    // W = U diag(9, 4, 1, 0.25) Vᵀ with U and V of a rotation each.
    const orthogonal = async (seed: number, rows: number) => {
      const x = await random.normal(random.key(seed), [rows, 4]).data();
      const columns = [0, 1, 2, 3].map((j) =>
        Array.from({ length: rows }, (_, i) => x[4 * i + j]!)
      );
      columns.forEach((column, j) => {
        for (const other of columns.slice(0, j)) {
          const along = column.reduce((s, v, i) => s + v * other[i]!, 0);
          column.forEach((_, i) => column[i]! -= along * other[i]!);
        }
        const length = Math.hypot(...column);
        column.forEach((_, i) => column[i]! /= length);
      });
      return tensor(columns);
    };
    const [u, v] = [await orthogonal(1, 6), await orthogonal(2, 5)];
    const sizes = tensor([[9], [4], [1], [0.25]]);
    const weight = u.transpose().matmul(v.mul(sizes));
    const near = async (x: Tensor, y: Tensor, within = 1e-10) =>
      assert(distance(await x.data(), await y.data()) < within);
    for (const init of ["pissa", "pissa_niter_20"] as AdapterInit[]) {
      const tuned = lora({ fc: { weight } }, {
        targets: "fc",
        rank: 2,
        alpha: 6,
        key: random.key(3),
        init,
      }).fc as unknown as { weight: Tensor; lora: Lora };
      const { a, b, scale } = tuned.lora;
      // Signs are arbitrary: compare what does not depend on them.
      const top = u.slice([[0, 2]]).transpose()
        .matmul(v.mul(sizes).slice([[0, 2]]));
      await near(b.matmul(a).mul(scale), top);
      await near(a.matmul(a.transpose()), tensor([[3, 0], [0, 4 / 3]]));
      await near(b.transpose().matmul(b), tensor([[3, 0], [0, 4 / 3]]));
      await near(tuned.weight.add(b.matmul(a).mul(scale)), weight, 1e-14);
      const x = random.normal(random.key(8), [3, 5]);
      await near(linear(tuned, x), linear({ weight }, x), 1e-13);
    }
    const rough = lora({ fc: { weight } }, {
      targets: "fc",
      rank: 2,
      alpha: 6,
      key: random.key(3),
      init: "pissa_niter_0",
    });
    await near(mergeAdapters(rough).fc.weight, weight, 1e-14);
    // A weight of zeros has no principal part.
    const none = lora({ fc: { weight: zeros([4, 3]) } }, {
      targets: "fc",
      rank: 2,
      alpha: 6,
      key: random.key(3),
      init: "pissa",
    });
    assertEquals(await mergeAdapters(none).fc.weight.abs().max().item(), 0);
  },
);

inFloat64(
  "PiSSA of Conv1D and of slices leaves the model as it was",
  async () => {
    const params = gptParams();
    const before = await outputs(gpt, params);
    for (const parts of [{}, queryAndValue]) {
      const tuned = adaptGpt(params, { init: "pissa", parts });
      assert(distance(before, await outputs(gpt, tuned)) < 1e-12);
      assert(distance(before, await outputs(gpt, dropAdapters(tuned))) > 1e-2);
    }
    for (
      const [changes, what] of [[{ dora: true }, "for DoRA"], [
        { name: "x" },
        "beside others",
      ]] as const
    ) {
      assertThrows(
        () => adaptGpt(params, { init: "pissa", ...changes }),
        TreeError,
        `Cannot initialise adapters by "pissa" ${what}: it changes the weights that these rest on`,
      );
    }
  },
);

inFloat64(
  "PiSSA's adapters are ordinary ones of twice the rank of the original weights",
  async () => {
    const params = gptParams();
    for (const parts of [{}, queryAndValue]) {
      const start = adaptGpt(params, { init: "pissa", parts });
      const trained = moved(start);
      const tuned = fromPissa(trained, { start, params });
      assert(
        distance(await outputs(gpt, trained), await outputs(gpt, tuned)) <
          1e-11,
      );
      assertEquals(dropAdapters(tuned), params);
      assertThrows(
        () =>
          fromPissa(trained, {
            start: adaptGpt(params, { targets: "c_fc" }),
            params,
          }),
        TreeError,
        `Cannot take PiSSA apart: the start has no such adapter at transformer.h.0.attn.c_attn.lora${
          "c_attn" in parts ? ".0" : ""
        }`,
      );
    }
  },
);
