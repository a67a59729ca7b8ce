/**
 * A trained GPT-2 that sorts six symbols of three kinds: all of its inputs, and its activations on three of them.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { concat, jit, type Shape, type Tensor, tensor, type Tree } from "cotan";
import { gpt2, type GPT2Params } from "cotan/nn";
import { unflatten } from "../../nn/models/parameters.ts";
import { assertClose } from "../support/allclose.ts";
import { eachBackend } from "../support/backends.ts";
import { hasGolden, readJson } from "../support/golden.ts";
import { isFull } from "../support/runs.ts";

/** Float32 in base64. */
interface Encoded {
  readonly shape: Shape;
  readonly data: string;
}

const model = gpt2({
  vocab_size: 3,
  n_positions: 11,
  n_embd: 48,
  n_layer: 3,
  n_head: 3,
  tie_word_embeddings: false,
});

function decode({ data }: Encoded): Float32Array {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function read(name: string): Record<string, Encoded> {
  return readJson(`data/gpt-nano-sort/gpt-nano-sort-${name}.json`);
}

/** The weights, whose matrices are those of nn.Linear. */
function load(): GPT2Params {
  const file = read("model");
  const entries = Object.keys(model.shapes).map((path) => {
    const encoded = file[path]!;
    const x = tensor(decode(encoded), { shape: encoded.shape });
    const isTurned = /\.c_\w+\.weight$/.test(path);
    return [path, isTurned ? x.transpose() : x] as const;
  });
  const params: Tree = unflatten(entries);
  return params as GPT2Params;
}

/** Greedy answers [N, 6] to prompts [N, 6]. */
function sorted(params: GPT2Params, prompts: Tensor): Tensor {
  let cache = model.cache(prompts.shape[0]!, 11), ids = prompts, position = 0;
  const answers: Tensor[] = [];
  for (let i = 0; i < 6; i++) {
    const out = model.step(params, ids, { cache, position });
    const T = ids.shape[1]!;
    position += T;
    cache = out.cache;
    ids = out.logits.slice([null, [T - 1, T]]).argmax({ axis: -1 });
    answers.push(ids);
  }
  return concat(answers, { axis: 1 });
}

eachBackend(
  "a trained GPT-2 sorts all of its 729 inputs",
  async (backend) => {
    const params = load();
    // The plain loops are slow.
    const count = backend === "reference" && !isFull ? 81 : 729;
    const prompts = Array.from(
      { length: count },
      (_, i) =>
        Array.from(
          { length: 6 },
          (_, digit) => Math.floor(i * 729 / count / 3 ** digit) % 3,
        ),
    );
    using sort = jit(sorted);
    const answers = sort(params, tensor(prompts, { dtype: "i32" }));
    assertEquals(
      await answers.toArray(),
      prompts.map((row) => row.toSorted()),
    );
  },
  undefined,
  !hasGolden,
);

eachBackend(
  "a trained GPT-2 has the activations that another implementation found",
  async () => {
    const params = load(), expected = read("t0-partials");
    const ids = tensor(decode(expected.idx!), { shape: expected.idx!.shape })
      .cast("i32");
    const names = ["x", "block0", "block1", "block2", "ln_f"];
    const states = model.hidden(params, ids);
    const logits = model.apply(params, ids);
    const found = [...states, logits, logits.softmax()];
    for (const [i, name] of [...names, "lm_head", "probs"].entries()) {
      const data = decode(expected[name]!);
      const size = data.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      await assertClose(found[i]!, data, {
        rtol: 0,
        atol: 1e-5 * size,
        what: name,
      });
    }
  },
  undefined,
  !hasGolden,
);
