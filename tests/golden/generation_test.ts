/**
 * Generation by a real Llama against a float64 reference: logits of prompts, and greedy continuations id for id, alone and
 * in a batch.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { type BackendName, tensor } from "cotan";
import { fromPretrained, generate, generateBatch } from "cotan/nn";
import { assertCloseData } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { goldenUrl, hasGolden, readJson } from "../support/golden.ts";
import { isFull } from "../support/runs.ts";

/** A prompt of reference_numpy_f64.json, whose logits are those behind its last token. */
interface Reference {
  readonly prompt_ids: number[];
  readonly greedy_ids: number[];
  readonly last_logits_first16: number[];
}

async function checkReference(backend: BackendName | "float64"): Promise<void> {
  const folder = "data/stories260K";
  const prompts = readJson<Record<string, Reference>>(
    `${folder}/reference_numpy_f64.json`,
  );
  const { model, params } = await fromPretrained(
    goldenUrl(`${folder}/hf-converted`),
    { tokenizer: false },
  );
  for (const [prompt, expected] of Object.entries(prompts)) {
    const { prompt_ids, greedy_ids, last_logits_first16 } = expected;
    using ids = tensor([prompt_ids], { dtype: "i32" });
    using logits = model.apply(params, ids);
    const last = (await logits.data()).slice(
      (prompt_ids.length - 1) * logits.shape[2]!,
    );
    const atol = backend === "float64" ? 1e-9 : 2e-4;
    assertCloseData(
      last.slice(0, 16),
      last_logits_first16,
      `logits after "${prompt}"`,
      { rtol: 0, atol },
    );
    const tokens = generate(model, params, prompt_ids, {
      maxNewTokens: greedy_ids.length - prompt_ids.length,
    });
    assertEquals([...prompt_ids, ...await Array.fromAsync(tokens)], greedy_ids);
    // The plain loops are slow, and in float64 they go through all prompts.
    if (backend === "reference" && !isFull) return;
  }
  if (backend === "float64" && !isFull) return;
  const all = Object.values(prompts);
  const given = all.map(({ prompt_ids }) => prompt_ids);
  const room = Math.min(
    ...all.map((p) => p.greedy_ids.length - p.prompt_ids.length),
  );
  const rows = await generateBatch(model, params, given, {
    maxNewTokens: room,
  });
  all.forEach(({ prompt_ids: { length }, greedy_ids }, i) =>
    assertEquals(rows[i], greedy_ids.slice(length, length + room))
  );
}

const reference =
  "a real Llama has the reference's logits and continues its prompts id for id";
inFloat64(reference, () => checkReference("float64"), !hasGolden);
eachBackend(reference, checkReference, undefined, !hasGolden);
