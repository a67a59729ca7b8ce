/**
 * What holds of any adapter.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { random, type Tensor, tree, valueAndGrad } from "cotan";
import {
  activate,
  combineAdapters,
  dropAdapters,
  isAdapter,
  lora,
  type LoraOptions,
  mergeAdapters,
} from "cotan/lora";
import { inFloat64 } from "../support/backends.ts";
import { check } from "../support/runs.ts";
import { distance, gpt, moved, outputs, someIds } from "./support.ts";

type Params = ReturnType<typeof gpt.init>;
type Changes = Omit<LoraOptions, "key">;

const linears = ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"];
const names = [...linears, "wpe"];

/** Which slices of c_attn have adapters, one at least. */
const slices = fc.array(fc.boolean(), { minLength: 3, maxLength: 3 })
  .filter((flags) => flags.includes(true));

/** Options of an adapter of some of these targets. */
function changes(among = names): fc.Arbitrary<Changes> {
  return fc.record({
    targets: fc.subarray(among, { minLength: 1 }),
    rank: fc.integer({ min: 1, max: 4 }),
    alpha: fc.constantFrom(0.3, 1, 16),
    rslora: fc.boolean(),
    init: fc.constantFrom("kaiming", "gaussian"),
    dora: fc.boolean(),
    dropout: fc.constantFrom(0, 0.2),
    bias: fc.constantFrom("none", "all", "lora_only"),
    flags: fc.option(slices),
  }).map(({ flags, ...options }) =>
    ({
      ...options,
      ...(flags && options.targets.includes("c_attn") && {
        parts: { c_attn: flags },
      }),
    }) as Changes
  );
}

const seeds = fc.integer({ min: 0, max: 1000 });

inFloat64(
  "a fresh adapter changes no bit; merged weights compute what a trained one does; dropped, the base is back",
  async () => {
    const params = gpt.init(random.key(1));
    const before = await outputs(gpt, params);
    await check(
      fc.asyncProperty(changes(), seeds, async (options, seed) => {
        const fresh = lora(params, { ...options, key: random.key(seed) });
        assertEquals(await outputs(gpt, fresh), before);
        const tuned = moved(fresh, seed);
        const merged = mergeAdapters(tuned);
        const after = await outputs(gpt, tuned);
        assert(distance(after, await outputs(gpt, merged)) < 1e-11);
        assertEquals(dropAdapters(tuned), params);
      }),
      15,
    );
  },
);

inFloat64("adapters of different layers may come in any order", async () => {
  const params = gpt.init(random.key(1));
  await check(
    fc.asyncProperty(
      fc.subarray(names, { minLength: 1, maxLength: names.length - 1 })
        .chain((some) => {
          const others = names.filter((name) => !some.includes(name));
          return fc.tuple(changes(some), changes(others));
        }),
      seeds,
      async ([one, other], seed) => {
        const key = random.key(seed);
        const apply = (p: Params, options: Changes) =>
          lora(p, { ...options, bias: "lora_only", key });
        const first = apply(apply(params, one), other);
        const second = apply(apply(params, other), one);
        const [x, y] = [first, second].map(tree.leaves);
        assertEquals(x!.map(({ path }) => path), y!.map(({ path }) => path));
        for (const [i, { leaf }] of x!.entries()) {
          assertEquals(await leaf.data(), await y![i]!.leaf.data());
        }
      },
    ),
    8,
  );
});

inFloat64("cat computes the weighted sum of what adapters do", async () => {
  const params = gpt.init(random.key(1));
  const plain = changes().map((options): Changes => ({
    targets: options.targets,
    rank: options.rank,
    alpha: options.alpha,
  }));
  const weight = fc.double({ min: -2, max: 2, noNaN: true });
  await check(
    fc.asyncProperty(
      fc.array(fc.tuple(plain, weight), { minLength: 1, maxLength: 3 }),
      seeds,
      async (list, seed) => {
        const names = list.map((_, i) => `adapter${i}`);
        const tuned = moved(
          list.reduce(
            (p, [options], i) =>
              lora(p, { ...options, name: names[i]!, key: random.key(i) }),
            params,
          ),
          seed,
        );
        const weights = list.map(([, weight]) => weight);
        const counted = Object.fromEntries(
          names.map((name, i) => [name, weights[i]!]),
        );
        const expected = await outputs(gpt, activate(tuned, counted));
        const options = { names, weights, how: "cat" } as const;
        const sum = await combineAdapters(tuned, options);
        assert(distance(expected, await outputs(gpt, sum.tuned)) < 1e-11);
      },
    ),
    8,
  );
});

inFloat64(
  "exactly the trainable leaves get gradients, and where b is zero those of a are zero",
  async () => {
    const params = gpt.init(random.key(1));
    const ids = someIds();
    await check(
      fc.asyncProperty(changes(linears), seeds, async (options, seed) => {
        const fresh = lora(params, { ...options, key: random.key(seed) });
        const [trainable, frozen] = tree.partition(fresh, isAdapter);
        const loss = (t: Params, f: Params): Tensor =>
          gpt.apply(tree.merge(t, f), ids).square().mean();
        const { grads } = valueAndGrad(loss)(trainable, frozen);
        const found = tree.leaves(grads);
        assertEquals(
          found.map(({ path }) => path),
          tree.leaves(fresh).map(({ path }) => path).filter(isAdapter),
        );
        for (const { path, leaf } of found) {
          if (!/\.[ab]$/.test(path)) continue;
          const most = await leaf.abs().max().item();
          assertEquals(most === 0, path.endsWith(".a"), path);
        }
      }),
      8,
    );
  },
);
