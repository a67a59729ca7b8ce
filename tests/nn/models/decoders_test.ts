/**
 * What holds of every decoder: of GPT-2, and of Llama and its kin.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  grad,
  jit,
  memory,
  random,
  type Tensor,
  tensor,
  type Tree,
  tree,
} from "cotan";
import { type Cache, type CausalModel, gpt2, llama } from "cotan/nn";
import fc from "fast-check";
import { check } from "../../support/runs.ts";
import { assertClose, ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const small = {
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 16,
  initializer_range: 0.5,
};

/** Models with two layers of 8 channels, 11 ids and 16 positions; heads of their own or tied ones. */
const models: Readonly<Record<string, CausalModel<Tree>>> = {
  "GPT-2": gpt2({
    vocab_size: 11,
    n_positions: 16,
    n_embd: 8,
    n_layer: 2,
    n_head: 2,
    initializer_range: 0.5,
  }),
  Llama: llama(small),
  Mistral: llama({ ...small, model_type: "mistral", sliding_window: 3 }),
  Qwen2: llama({ ...small, model_type: "qwen2" }),
  Qwen3: llama({ ...small, model_type: "qwen3", head_dim: 6 }),
  SmolLM3: llama({ ...small, model_type: "smollm3", no_rope_layers: [1, 0] }),
};

const tokens = [[1, 5, 2, 7, 3], [4, 4, 9, 0, 10]];

/** Registers a test for each model, with parameters. */
function eachModel(
  name: string,
  f: (model: CausalModel<Tree>, params: Tree) => void | Promise<void>,
): void {
  for (const [kind, model] of Object.entries(models)) {
    Deno.test(`${name} (${kind})`, () => f(model, model.init(random.key(1))));
  }
}

/** The parameter at a path. */
function leafAt(params: Tree, wanted: string): Tensor | undefined {
  return tree.leaves(params).find(({ path }) => path === wanted)?.leaf;
}

eachModel(
  "init gives the parameters that shapes name, the same for a key",
  async (model, params) => {
    const leaves = tree.leaves(params);
    const found = leaves.map(({ path, leaf }) => [path, leaf.shape]);
    assertEquals(Object.fromEntries(found), model.shapes);
    assertEquals(found, Object.entries(model.shapes));
    const again = tree.leaves(model.init(random.key(1)));
    for (const [i, { leaf }] of leaves.entries()) {
      assertEquals(await leaf.data(), await again[i]!.leaf.data());
    }
  },
);

eachModel(
  "hidden gives the embedding, each block, and the last norm, and apply the logits",
  async (model, params) => {
    const hidden = model.hidden(params, ids(tokens));
    const shapes = hidden.map(({ shape }) => shape);
    assertEquals(shapes, new Array(4).fill([2, 5, 8]));
    const head = leafAt(params, "lm_head.weight") ??
      tree.leaves(params)[0]!.leaf;
    assertEquals(head.shape, [11, 8]);
    const logits = model.apply(params, ids(tokens));
    const expected = hidden[3]!.matmul(head.transpose());
    await assertClose(logits, await expected.data(), { shape: [2, 5, 11] });
  },
);

eachModel(
  "a token does not see those after it, nor masked ones before it",
  async (model, params) => {
    const all = await model.apply(params, ids(tokens)).data();
    const cut = tokens.map((row) => row.slice(0, 3));
    const start = await model.apply(params, ids(cut)).data();
    assertEquals(start.subarray(0, 33), all.subarray(0, 33));
    const mask = ids([[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]);
    const other = tokens.map((row) => row.map((id, t) => t === 1 ? 8 : id));
    const [a, b] = [tokens, other].map((rows) =>
      model.apply(params, ids(rows), { mask }).slice([[0, 1], [2, 5]])
    );
    await assertClose(a!, await b!.data());
    const seen = model.apply(params, ids(other)).slice([[0, 1], [2, 5]]);
    const gap = await seen.sub(b!).abs().max().item();
    assert(gap > 1e-3, "without the mask the token counts");
  },
);

eachModel(
  "padding on the right changes no real token, and on the left none where positions leave it out",
  async (model, params) => {
    const row = tokens[0]!;
    const bare = model.apply(params, ids([row]));
    const right = model.apply(params, ids([[...row, 0, 0]]), {
      mask: ids([[1, 1, 1, 1, 1, 0, 0]]),
    });
    await assertClose(right.slice([null, [0, 5]]), await bare.data());
    const left = model.apply(params, ids([[0, 0, ...row], [...row, 1, 2]]), {
      mask: ids([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]),
      position: tensor(Int32Array.of(-2, 0)),
    });
    await assertClose(left.slice([[0, 1], [2, 7]]), await bare.data());
  },
);

eachModel(
  "steps with a cache give the logits of the whole, in any pieces",
  async (model, params) => {
    const whole = model.apply(params, ids(tokens));
    using step = jit(
      (cache: Cache, ids: Tensor, position: Tensor) =>
        model.step(params, ids, { cache, position }),
      { donate: [0] },
    );
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 4 }));
    await check(
      fc.asyncProperty(cuts, async (cuts) => {
        const ends = [...cuts.toSorted((a, b) => a - b), 5];
        let cache = model.cache(2, 7), at = 0;
        for (const end of ends) {
          const piece = tokens.map((row) => row.slice(at, end));
          const position = tensor(at, { dtype: "i32" });
          const out = step(cache, ids(piece), position);
          const expected = whole.slice([null, [at, end]]);
          await assertClose(out.logits, await expected.data());
          cache = out.cache;
          at = end;
        }
        const reads = model.apply(params, ids([[6], [6]]), {
          cache,
          position: 5,
        });
        const longer = tokens.map((row) => [...row, 6]);
        const last = model.apply(params, ids(longer)).slice([null, [5, 6]]);
        await assertClose(reads, await last.data());
      }),
      4,
      [[[]], [[1, 2, 3, 4]]],
    );
  },
);

eachModel(
  "rows of a batch may be at positions of their own",
  async (model, params) => {
    // Row 0 holds three tokens when row 1 holds one; then both take two more.
    const first = ids(tokens.map((row) => row.slice(0, 3)));
    const { cache } = model.step(params, first, {
      cache: model.cache(2, 7),
      position: 0,
    });
    const next = ids([tokens[0]!.slice(3, 5), tokens[1]!.slice(1, 3)]);
    const position = tensor(Int32Array.of(3, 1));
    const { logits } = model.step(params, next, { cache, position });
    const whole = model.apply(params, ids(tokens));
    for (const [row, at] of [[0, 3], [1, 1]] as const) {
      await assertClose(
        logits.slice([[row, row + 1]]),
        await whole.slice([[row, row + 1], [at, at + 2]]).data(),
      );
    }
  },
);

eachModel(
  "one program serves a step at every position, and writes a donated cache in place",
  (model, params) => {
    const token = ids([[1]]);
    using step = jit(
      (cache: Cache, position: Tensor) =>
        model.step(params, token, { cache, position }),
      { donate: [0] },
    );
    const start = model.cache(1, 7);
    const position = tensor(0, { dtype: "i32" });
    // Keys and values of two layers, and the logits.
    assertStringIncludes(
      String(step.program(start, position)),
      "5 outputs of which 4 in place",
    );
    let cache = step(start, position).cache;
    const { programs, liveBytes } = memory();
    for (let at = 1; at < 7; at++) {
      const out = step(cache, tensor(at, { dtype: "i32" }));
      out.logits.dispose();
      cache = out.cache;
    }
    assertEquals(memory().programs, programs);
    assert(memory().liveBytes - liveBytes <= 6 * 4, "only positions are new");
  },
);

eachModel(
  "a step hides cached tokens that a mask says are padding",
  async (model, params) => {
    const mask = ids([[1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]);
    const out = model.step(params, ids(tokens), {
      cache: model.cache(2, 6),
      position: 0,
      mask,
    });
    const cut = mask.slice([null, [0, 5]]);
    const whole = model.apply(params, ids(tokens), { mask: cut });
    await assertClose(out.logits, await whole.data());
  },
);

eachModel("every parameter has a gradient", async (model, params) => {
  using slope = jit(
    grad((p: Tree) => model.apply(p, ids(tokens)).square().mean()),
  );
  for (const { path, leaf } of tree.leaves(slope(params))) {
    const g = await leaf.data();
    assert(g.every(Number.isFinite) && g.some((v) => v !== 0), path);
  }
});

eachModel(
  "outside jit a pass frees what it makes but its result",
  (model, params) => {
    const input = ids(tokens);
    const before = memory().tensors;
    model.apply(params, input).dispose();
    for (const state of model.hidden(params, input)) state.dispose();
    const cache = model.cache(2, 6);
    const out = model.step(params, input, { cache, position: 0 });
    for (const { leaf } of tree.leaves({ cache, out })) leaf.dispose();
    assertEquals(memory().tensors, before);
  },
);
