/**
 * Adapters by name: chosen, scaled, combined.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  jit,
  memory,
  random,
  type Tensor,
  tensor,
  tree,
  TreeError,
} from "cotan";
import {
  activate,
  adapterNames,
  combineAdapters,
  dropAdapters,
  lora,
  type LoraOptions,
  mergeAdapters,
  report,
  scaleAdapters,
  stackAdapters,
} from "cotan/lora";
import { assertNoLeaks } from "cotan/testing";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  distance,
  gpt,
  type GptParams,
  gptParams,
  moved,
  outputs,
  someIds,
  typesIn,
} from "./support.ts";

const options = { targets: ["c_attn", "wpe"], rank: 2, alpha: 3 };

function adapt(
  params: GptParams,
  name: string,
  changes: Partial<LoraOptions> = {},
): GptParams {
  const key = random.key(name.length);
  return lora(params, { ...options, key, name, ...changes });
}

/** Two adapters with values, by name. */
function both(params: GptParams): GptParams {
  return moved(adapt(adapt(params, "tales"), "haiku", { rank: 1 }));
}

inFloat64(
  "adapters by name stand side by side, add up, and are chosen at no cost",
  async () => {
    const params = gptParams(), tuned = both(params);
    assertEquals(adapterNames(tuned), ["tales", "haiku"]);
    assertEquals(
      typesIn(tuned, /h\.0.*lora/).map((text) => text.replace(/^.*lora\./, "")),
      [
        "tales.a f32[2, 8]",
        "tales.b f32[24, 2]",
        "tales.scale f32[]",
        "haiku.a f32[1, 8]",
        "haiku.b f32[24, 1]",
        "haiku.scale f32[]",
      ],
    );
    const before = memory().tensors;
    const tales = activate(tuned, "tales"), haiku = activate(tuned, "haiku");
    activate(tuned, ["haiku", "tales"]);
    assertEquals(memory().tensors, before);
    assertEquals(typesIn(tales, /wpe.*lora/), [
      "transformer.wpe.lora.a f32[2, 16]",
      "transformer.wpe.lora.b f32[8, 2]",
      "transformer.wpe.lora.scale f32[]",
    ]);
    assertEquals(activate(tuned, []), params);
    const rest = dropAdapters(tuned, "haiku");
    assertEquals(adapterNames(rest), ["tales"]);
    assertEquals(await outputs(gpt, rest), await outputs(gpt, tales));
    assertEquals(dropAdapters(tuned, ["haiku", "tales"]), params);
    const weights = async (
      p: GptParams,
    ) => [
      ...await mergeAdapters(p).transformer.h[1]!.attn.c_attn.weight.data(),
    ];
    const own = [...await params.transformer.h[1]!.attn.c_attn.weight.data()];
    const [one, two, sum] = [
      await weights(tales),
      await weights(haiku),
      await weights(tuned),
    ];
    assert(distance(sum, one.map((x, i) => x + two[i]! - own[i]!)) < 1e-14);
    const some = await weights(
      activate(tuned, { tales: 0.5, haiku: tensor(-2) }),
    );
    const expected = own.map((x, i) =>
      x + 0.5 * (one[i]! - x) - 2 * (two[i]! - x)
    );
    assert(distance(some, expected) < 1e-14);
    assertEquals(
      await outputs(gpt, activate(tuned, { tales: 0.5 })),
      await outputs(gpt, scaleAdapters(tales, 0.5)),
    );
    assertEquals(
      await outputs(gpt, activate(scaleAdapters(tuned, 0.5, "tales"), "haiku")),
      await outputs(gpt, haiku),
    );
  },
);

eachBackend(
  "switching between adapters of the same shapes runs the same program, at once",
  async () => {
    const tuned = moved(adapt(adapt(gptParams(), "tales"), "haiku"));
    const ids = someIds();
    using run = jit((p: GptParams, ids: Tensor) => gpt.apply(p, ids));
    const first = [...await run(activate(tuned, "tales"), ids).data()];
    const { programs } = memory();
    const times = [1, 2, 3].map(() => {
      const started = performance.now();
      activate(tuned, "haiku");
      return performance.now() - started;
    });
    // The quickest: others may be at work beside.
    const took = Math.min(...times);
    const haiku = activate(tuned, "haiku");
    const second = [...await run(haiku, ids).data()];
    assertEquals(memory().programs, programs);
    assert(took < 5, `switching took ${took} ms`);
    assert(distance(first, second) > 1e-3);
  },
);

inFloat64(
  "cat is the sum of the updates, svd is its best cut, and says what it leaves out",
  async () => {
    const params = gptParams();
    const sliced = {
      targets: "c_attn",
      parts: { c_attn: [true, false, true] },
    };
    const trees = [
      both(params),
      moved(adapt(adapt(params, "tales", sliced), "haiku", sliced)),
      // Layers that have one of them alone.
      moved(adapt(adapt(params, "tales", { targets: "c_fc" }), "haiku")),
    ];
    for (const tuned of trees) {
      const names = ["tales", "haiku"], weights = [0.7, -1.5];
      const expected = await outputs(
        gpt,
        activate(tuned, { tales: 0.7, haiku: -1.5 }),
      );
      const cat = await combineAdapters(tuned, { names, weights, how: "cat" });
      assertEquals(cat.residual, 0);
      assert(distance(expected, await outputs(gpt, cat.tuned)) < 1e-12);
      const whole = { names, weights, how: "svd", rank: 9 } as const;
      const exact = await combineAdapters(tuned, whole);
      assertEquals(exact.residual, 0);
      assert(distance(expected, await outputs(gpt, exact.tuned)) < 1e-12);
      const cut = await combineAdapters(tuned, { ...whole, rank: 1 });
      const norm = async (p: GptParams, q: GptParams) => {
        const [x, y] = [mergeAdapters(p), mergeAdapters(q)].map(tree.leaves);
        const gaps = await Promise.all(
          x!.map(({ leaf }, i) => leaf.sub(y![i]!.leaf).square().sum().item()),
        );
        return Math.sqrt(gaps.reduce((a, b) => a + b));
      };
      const zero = scaleAdapters(cut.tuned, 0);
      const residual = await norm(cat.tuned, cut.tuned) /
        await norm(cat.tuned, zero);
      assert(cut.residual > 0.01 && Math.abs(cut.residual - residual) < 1e-12);
    }
    // The best cut of a matrix of known singular values leaves out the others.
    const node = (a: number[][], b: number[][]) => ({
      fc: {
        weight: tensor([[0, 0], [0, 0], [0, 0]]),
        lora: { one: { a: tensor(a), b: tensor(b), scale: tensor(1) } },
      },
    });
    const { tuned, residual } = await combineAdapters(
      node([[4, 0], [0, 3]], [[1, 0], [0, 1], [0, 0]]),
      { names: ["one"], how: "svd", rank: 1 },
    );
    assert(Math.abs(residual - 3 / 5) < 1e-14);
    assertEquals(await mergeAdapters(tuned).fc.weight.toArray(), [
      [4, 0],
      [0, 0],
      [0, 0],
    ]);
  },
);

inFloat64("names that cannot be or are not there are refused", async () => {
  const params = gptParams(), tuned = both(params);
  for (const name of ["", "a", "weight", "slices", "12", "x.y"]) {
    assertThrows(
      () => adapt(params, name),
      TreeError,
      `Cannot name an adapter "${name}": a name has no dot, and is no number or key of an adapter, such as "a" or "scale"`,
    );
  }
  const cases: [() => unknown, string][] = [
    [
      () => adapt(tuned, "tales"),
      'Cannot adapt transformer.wpe: it has an adapter "tales" already; use dropAdapters first, or another name',
    ],
    [
      () => lora(tuned, { ...options, key: random.key(0) }),
      "Cannot adapt transformer.wpe: it has an adapter already; use mergeAdapters or dropAdapters first, or give this one a name",
    ],
    [
      () => adapt(activate(tuned, "tales"), "other"),
      "Cannot adapt transformer.wpe: it has an adapter already; use mergeAdapters or dropAdapters first",
    ],
    [
      () => activate(tuned, "poems"),
      'Cannot activate adapters by the name "poems": there are tales, haiku',
    ],
    [
      () => dropAdapters(tuned, ["tales", "poems"]),
      'Cannot drop adapters by the name "poems": there are tales, haiku',
    ],
    [
      () => scaleAdapters(activate(tuned, "tales"), 2, "tales"),
      "Cannot scale adapters by name: the one at transformer.wpe has none; make it by lora with a name",
    ],
    [
      () => adapterNames(params),
      "Cannot name adapters: no layer of the tree has an adapter",
    ],
    [
      () =>
        scaleAdapters(
          adapt(params, "tales", { dora: true, targets: "c_attn" }),
          2,
        ),
      "Cannot scale adapters: the one at transformer.h.0.attn.c_attn.lora.tales is of DoRA, whose magnitudes count whatever its scale",
    ],
    [
      () => {
        const bias = { bias: "all", targets: "c_attn" } as const;
        const two = adapt(adapt(params, "tales", bias), "haiku", bias);
        gpt.apply(two, someIds());
      },
      "Cannot apply a layer whose adapters bring two copies of its bias: choose one of them by activate",
    ],
  ];
  for (const [call, message] of cases) {
    const error = assertThrows(call, TreeError);
    assertEquals(error.message, message);
  }
  const names = ["tales", "haiku"];
  const refusals: [
    Parameters<typeof combineAdapters>[1],
    string,
    GptParams?,
  ][] = [
    [
      { names, weights: [1], how: "cat" },
      "Cannot combine adapters: there are 2 names and 1 weights",
    ],
    [
      { names, how: "svd" },
      'Cannot combine adapters at rank undefined: "svd" needs a positive integer',
    ],
    [
      { names: ["poems"], how: "cat" },
      'Cannot combine adapters by the name "poems": there are tales, haiku',
    ],
    [
      { names, how: "cat" },
      "Cannot combine adapters: the one at transformer.h.0.attn.c_attn is more than a, b and scale",
      adapt(adapt(params, "tales", { targets: "c_attn", dora: true }), "haiku"),
    ],
    [
      { names, how: "cat" },
      "Cannot combine adapters: those at transformer.h.0.attn.c_attn are of different slices",
      adapt(
        adapt(params, "tales", { parts: { c_attn: [true, false, true] } }),
        "haiku",
      ),
    ],
  ];
  for (const [how, message, given = tuned] of refusals) {
    const error = await assertRejects(() => combineAdapters(given, how), Error);
    assertEquals(error.message, message);
  }
});
inFloat64("choosing, combining and stacking leave nothing behind", async () => {
  const params = gptParams(), tuned = both(params);
  const free = (t: GptParams) => {
    const kept = new Set(tree.leaves(tuned).map(({ leaf }) => leaf));
    for (const { leaf } of tree.leaves(t)) if (!kept.has(leaf)) leaf.dispose();
  };
  await assertNoLeaks(async () => {
    free(activate(tuned, { tales: 2, haiku: 3 }));
    free(scaleAdapters(tuned, 3, "haiku"));
    for (const how of ["cat", "svd"] as const) {
      const names = ["tales", "haiku"];
      free((await combineAdapters(tuned, { names, how, rank: 2 })).tuned);
    }
    free(stackAdapters([activate(tuned, "tales"), activate(tuned, "haiku")]));
    free(mergeAdapters(tuned));
    await report(tuned);
  });
});
