import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  jit,
  memory,
  random,
  scope,
  ShapeError,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
} from "cotan";
import {
  dequantize,
  isAdapter,
  lora,
  mergeAdapters,
  quantize,
  type QuantizeOptions,
  report,
} from "cotan/lora";
import { conv1D, gpt2, type GPT2Params, linear } from "cotan/nn";
import { dense, LEVELS, type QuantizedWeight } from "../../nn/quantized.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { distance, gpt, moved, outputs, someIds, typesIn } from "./support.ts";

/** Two blocks of layers whose rows are multiples of 64. */
const wide = gpt2({
  vocab_size: 11,
  n_positions: 16,
  n_embd: 64,
  n_layer: 2,
  n_head: 2,
  initializer_range: 0.2,
});

const kinds = ["int8", "nf4"] as const;

function quantized(weight: Tensor, kind: "int8" | "nf4"): QuantizedWeight {
  const { fc } = quantize({ fc: { weight } }, { kind });
  return fc.weight as unknown as QuantizedWeight;
}

/** What the definition gives, in plain numbers. */
function byHand(row: number[], kind: "int8" | "nf4"): number[] {
  const size = kind === "int8" ? row.length : 64;
  return row.map((x, i) => {
    const start = i - i % size;
    const most = Math.fround(
      Math.max(...row.slice(start, start + size).map(Math.abs)),
    );
    if (most === 0) return 0;
    if (kind === "int8") return Math.round(x / (most / 127)) * (most / 127);
    const gaps = LEVELS.map((level) => Math.abs(x / most - level));
    return LEVELS[gaps.indexOf(Math.min(...gaps))]! * most;
  });
}

eachBackend(
  "weights come back as the nearest that their kind can hold",
  async () => {
    const weight = random.normal(random.key(1), [6, 128]);
    const rows = await weight.toArray() as number[][];
    for (const kind of kinds) {
      const found = await dense(quantized(weight, kind))
        .toArray() as number[][];
      for (const [i, row] of rows.entries()) {
        assert(distance(byHand(row, kind), found[i]!) < 1e-6, `${kind} ${i}`);
      }
      using run = jit((w: QuantizedWeight) => dense(w));
      const compiled = await run(quantized(weight, kind)).toArray();
      assertEquals(compiled, found);
    }
  },
);

eachBackend(
  "what can be held comes back exactly, and zeros stay zeros",
  async () => {
    const row = Array.from({ length: 64 }, (_, i) => LEVELS[i % 16]!);
    const levels = tensor([row, row.map(() => 0), row.map((x) => -x)]);
    const nf4 = await dense(quantized(levels, "nf4")).toArray() as number[][];
    assertEquals(nf4[0], row.map(Math.fround));
    assertEquals(nf4[1], row.map(() => 0));
    // All values of a byte, each in each place of a word.
    const bytes = [0, 1, 2, 3].map((shift) =>
      Array.from(
        { length: 256 },
        (_, i) => Math.max(-127, (i + shift) % 256 - 128),
      )
    );
    const int8 = await dense(quantized(tensor(bytes), "int8")).toArray();
    assertEquals(int8, bytes);
  },
);

eachBackend(
  "layers compute with quantised weights as with the same ones in f32",
  async () => {
    const x = random.normal(random.key(2), [3, 64]);
    const weight = random.normal(random.key(1), [64, 64]);
    for (const kind of kinds) {
      const { fc } = quantize({ fc: { weight } }, { kind });
      const { fc: plain } = dequantize({ fc });
      for (const layer of [linear, conv1D]) {
        const [found, expected] = [layer(fc, x), layer(plain, x)];
        assert(distance(await expected.data(), await found.data()) < 1e-6);
      }
    }
  },
);

/** Bytes of the arena of a step that trains adapters of a quantised model. */
function stepArena(
  gpt: ReturnType<typeof gpt2>,
  kind: QuantizeOptions["kind"],
  targets: string,
): number {
  const tuned = lora(quantize(gpt.init(random.key(1)), { kind }), {
    targets,
    rank: 1,
    alpha: 1,
    key: random.key(0),
  });
  const [trainable, frozen] = tree.partition(tuned, isAdapter);
  using step = jit((t: GPT2Params, f: GPT2Params, ids: Tensor) =>
    valueAndGrad((t: GPT2Params) =>
      gpt.apply(tree.merge(t, f), ids).square().mean()
    )(t).grads
  );
  const ids = tensor([[1, 2]], { dtype: "i32" });
  return step.program(trainable, frozen, ids).arenaBytes;
}

eachBackend(
  "adapters are trained on quantised weights, of which nothing changes",
  async () => {
    for (const kind of kinds) {
      const base = quantize(wide.init(random.key(1)), { kind });
      const tuned = lora(base, {
        targets: ["c_attn", "c_fc"],
        rank: 2,
        alpha: 4,
        key: random.key(0),
        parts: { c_attn: [true, false, true] },
      });
      assertEquals(await outputs(wide, tuned), await outputs(wide, base));
      using step = jit((t: GPT2Params, f: GPT2Params, ids: Tensor) => {
        const loss = (t: GPT2Params) =>
          wide.apply(tree.merge(t, f), ids).square().mean();
        const { value, grads } = valueAndGrad(loss)(t);
        return { t: tree.map((x, g) => x.sub(g!.mul(0.05)), t, grads), value };
      });
      const run = async (tuned: GPT2Params) => {
        const losses = [];
        const [first, f] = tree.partition(tuned, isAdapter);
        let t = first;
        for (let i = 0; i < 4; i++) {
          const out = step(t, f, someIds());
          t = out.t;
          losses.push(await out.value.item());
        }
        return losses;
      };
      const losses = await run(tuned);
      assert(losses.at(-1)! < 0.99 * losses[0]!, String(losses));
      assert(distance(await run(dequantize(tuned)), losses) < 1e-5);
    }
  },
);

inFloat64("a merge says which base it is of", async () => {
  const params = wide.init(random.key(1));
  const base = quantize(params, { kind: "nf4" });
  const tuned = moved(lora(base, {
    targets: "c_attn",
    rank: 2,
    alpha: 4,
    key: random.key(0),
  }));
  const message = (p: GPT2Params, base?: "quantised" | GPT2Params) =>
    assertThrows(() => mergeAdapters(p, base ? { base } : {}), TreeError)
      .message;
  assertEquals(
    message(tuned),
    'Cannot merge the adapter at transformer.h.0.attn.c_attn: its weight is nf4[64, 192], so say which base is meant, by base: "quantised" or the parameters that it was made of',
  );
  assertEquals(
    message(tuned, gpt.init(random.key(1))),
    "Cannot merge the adapter at transformer.h.0.attn.c_attn: the base has f32[8, 24] there, expected f32[64, 192]",
  );
  const same = mergeAdapters(tuned, { base: "quantised" });
  assert(
    distance(await outputs(wide, tuned), await outputs(wide, same)) < 1e-12,
  );
  assertEquals(typesIn(same, /h\.0.*(c_attn|c_fc)\.weight/), [
    "transformer.h.0.attn.c_attn.weight f32[64, 192]",
    "transformer.h.0.mlp.c_fc.weight.nf4 u32[64, 32]",
    "transformer.h.0.mlp.c_fc.weight.absmax f32[64, 4]",
  ]);
  const full = mergeAdapters(tuned, { base: params });
  assertEquals(typesIn(full), typesIn(params));
  assertEquals(full.transformer.h[0]!.mlp, params.transformer.h[0]!.mlp);
  const gap = distance(await outputs(wide, tuned), await outputs(wide, full));
  assert(gap > 1e-4 && gap < 1, String(gap));
});

inFloat64(
  "a report counts the numbers of quantised weights, not their words",
  async () => {
    const params = wide.init(random.key(1));
    const options = {
      targets: "c_attn",
      rank: 2,
      alpha: 4,
      key: random.key(0),
    };
    const rows = async (p: GPT2Params) => {
      const { modelParameters, parameters } = await report(lora(p, options));
      return [modelParameters, parameters];
    };
    assertEquals(await rows(params), [tree.count(params), 2 * 2 * (64 + 192)]);
    const [count] = await rows(quantize(params, { kind: "nf4" }));
    assert(count! >= tree.count(params) && count! < 1.02 * tree.count(params));
  },
);

inFloat64("what cannot be quantised is refused", () => {
  const params = gpt.init(random.key(1)), large = wide.init(random.key(1));
  const cases: [() => unknown, string][] = [
    [
      () => quantize(params, { kind: "nf4" }),
      "Cannot quantise transformer.h.0.attn.c_attn of weight f32[8, 24] to nf4: the last axis must be a multiple of 64",
    ],
    [
      () => quantize(large, { kind: "int8", targets: "wte" }),
      "Cannot quantise transformer.wte: it is an embedding, which stays f32; leave it out of the targets",
    ],
    [
      () =>
        quantize({ lm_head: { weight: tensor([[1]]) } }, {
          kind: "int8",
          targets: "lm_head",
        }),
      "Cannot quantise lm_head: it is an output head, which stays f32; leave it out of the targets",
    ],
    [
      () => quantize(quantize(large, { kind: "int8" }), { kind: "int8" }),
      "Cannot quantise transformer.h.0.attn.c_attn: it is quantised already",
    ],
    [
      () => quantize(large, { kind: "fp4" as "nf4" }),
      'Cannot quantise to "fp4": there are "int8" and "nf4"',
    ],
    [
      () => {
        const { fc } = quantize({ fc: { weight: tensor([[1, 2, 3, 4]]) } }, {
          kind: "int8",
        });
        linear(fc, tensor([1, 2, 3]));
      },
      "Cannot apply a linear layer of weight int8[1, 4] to f32[3]: the last axis must be 4",
    ],
  ];
  for (const [call, message] of cases) {
    assertEquals(assertThrows(call, Error).message, message);
  }
  assertThrows(() => quantize(params, { kind: "nf4" }), ShapeError);
});

inFloat64(
  "weights in f32 are not kept from the forward pass to the backward one",
  () => {
    const model = (layers: number) =>
      gpt2({
        vocab_size: 11,
        n_positions: 4,
        n_embd: 64,
        n_layer: layers,
        n_head: 2,
      });
    const arena = (layers: number, kind: QuantizeOptions["kind"]) =>
      stepArena(model(layers), kind, "c_attn");
    for (const kind of kinds) {
      const layers = 5;
      const bytes = scope(() => arena(layers, kind));
      const weights = 4 * layers * 12 * 64 ** 2;
      assert(bytes < weights / 4, `${bytes} of ${weights}`);
    }
  },
);

eachBackend(
  "a step on quantised weights has no room for one of them in f32",
  () => {
    const model = gpt2({
      vocab_size: 11,
      n_positions: 4,
      n_embd: 256,
      n_layer: 2,
      n_head: 2,
    });
    for (const kind of kinds) {
      const arenaBytes = stepArena(model, kind, "all-linear");
      // The smallest are [256, 256].
      assert(arenaBytes < 4 * 256 ** 2 / 2, `${arenaBytes}`);
    }
  },
  ["wasm"],
);

inFloat64("quantising leaves nothing behind", () => {
  const params = wide.init(random.key(1));
  const before = memory().tensors;
  for (const kind of kinds) {
    const small = quantize(params, { kind });
    const kept = new Set(tree.leaves(params).map(({ leaf }) => leaf));
    for (const p of [dequantize(small), small]) {
      for (const { leaf } of tree.leaves(p)) {
        if (!kept.has(leaf)) leaf.dispose();
      }
    }
  }
  assertEquals(memory().tensors, before);
});
