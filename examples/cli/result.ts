/**
 * What fine-tuning leaves behind, and the proof that it is what was trained.
 *
 * @module
 */

import { type Data, FormatError, type Tree } from "../../core/mod.ts";
import { loadPeft, mergeAdapters, savePeft } from "../../lora/mod.ts";
import { fromPretrained, savePretrained } from "../../nn/checkpoint/mod.ts";
import { orderedBatches, type Rows } from "../../nn/data/mod.ts";
import { logitsOf } from "./evaluate.ts";
import { count, type Loaded } from "./model.ts";
import { makesAdapter, type Method } from "./methods.ts";
import type { Terminal } from "./terminal.ts";
import { disposeUnless } from "./train.ts";

/** Saves adapters as a PEFT folder, or the model as a folder of its own. */
export async function saveResult(
  params: Tree,
  { folder, config }: Loaded,
  options: {
    readonly out: string;
    readonly method: Method;
    readonly name: string;
  },
): Promise<void> {
  const { out, method, name } = options;
  if (makesAdapter(method)) {
    await savePeft(out, params, { baseModel: name, taskType: "CAUSAL_LM" });
  } else {
    await savePretrained(out, { params, config, tokenizerFiles: folder });
  }
}

/** Loads what was saved and compares logits on a held-out row; a difference is an error. */
export async function verifyResult(
  params: Tree,
  { model, params: base }: Loaded,
  options: {
    readonly out: string;
    readonly method: Method;
    readonly valid: Rows;
    readonly terminal: Terminal;
  },
): Promise<void> {
  const { out, method, valid, terminal } = options;
  const [batch] = orderedBatches(valid, { batch: 1 });
  const logits = (params: Tree): Promise<Data> =>
    logitsOf(model, params, batch!, valid.seq);
  const expected = await logits(params);

  const loaded = makesAdapter(method)
    ? await loadPeft(out, base)
    : (await fromPretrained(out, { tokenizer: false })).params;
  const again = await logits(loaded);
  disposeUnless(params, loaded);
  const unequal = again.findIndex((x, i) => !Object.is(x, expected[i]));
  if (unequal >= 0) {
    throw new FormatError(
      `Cannot trust ${out}: loaded back, it gives other logits than were trained (${
        again[unequal]
      } for ${expected[unequal]})`,
    );
  }
  terminal.line(
    `\nloaded back: all ${
      count(expected.length)
    } logits of a held-out row are equal, bit for bit`,
  );
  if (!makesAdapter(method)) return;

  const merged = mergeAdapters(params);
  const flat = await logits(merged);
  disposeUnless(params, merged);
  let most = 0;
  flat.forEach((x: number, i: number) => {
    most = Math.max(most, Math.abs(x - expected[i]!));
  });
  terminal.line(`merged: logits differ by at most ${most.toExponential(1)}`);
}
