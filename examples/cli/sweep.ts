/**
 * The command `sweep`: a DyLoRA adapter at every rank, beside a LoRA adapter cut to it.
 *
 * @module
 */

import { jit, type Tensor, tensor, type Tree } from "../../core/mod.ts";
import { atRank, loadPeft, report } from "../../lora/mod.ts";
import { orderedBatches, type Rows } from "../../nn/data/mod.ts";
import { number, type Option, text, UsageError, type Values } from "./args.ts";
import {
  type DataOptions,
  dataOptions,
  loadExamples,
  prepareRows,
} from "./data.ts";
import { languageLoss } from "./evaluate.ts";
import { finetune, finetuneOptions } from "./finetune.ts";
import {
  type CommandContext,
  type EngineOptions,
  engineOptions,
  openEngine,
} from "./job.ts";
import { describeModel, loadModel } from "./model.ts";
import { breathe } from "./train.ts";

/** Options of `sweep`. */
export type SweepOptions = DataOptions & EngineOptions & {
  readonly model: Option<string>;
  readonly adapter: Option<string | null>;
  readonly beside: Option<string | null>;
  readonly batch: Option<number>;
};

/** Tokens of a row where nobody says how many. */
const USUAL_SEQ = 128;

/** Options of `sweep`. */
export const sweepOptions: SweepOptions = {
  model: finetuneOptions.model,
  ...dataOptions("sotu", USUAL_SEQ),
  adapter: text(
    "DIR",
    "adapter that DyLoRA has trained",
    null,
    "one is trained, as finetune --method dylora does",
  ),
  beside: text(
    "DIR",
    "adapter of LoRA to compare with",
    null,
    "one is trained, as finetune does, where --adapter is too",
  ),
  batch: number("rows that are evaluated at once", 8, {
    integer: true,
    min: 1,
  }),
  ...engineOptions,
};

/** Runs the command; returns whether it came to its end. */
export async function sweep(
  values: Values<SweepOptions>,
  context: CommandContext,
): Promise<boolean> {
  const { terminal, signal } = context;
  const { model: name, beside } = values;
  const folders: [title: string, folder: string][] = [];
  if (values.adapter !== null) {
    folders.push(["DyLoRA", values.adapter]);
    if (beside !== null) folders.push(["LoRA, cut", beside]);
  } else {
    if (beside !== null) {
      throw new UsageError(
        "--beside needs an --adapter to stand beside; give one, or neither to train both",
      );
    }
    for (
      const [title, method] of [["DyLoRA", "dylora"], [
        "LoRA, cut",
        "lora",
      ]] as const
    ) {
      const folder = `out/sweep-${method}`;
      terminal.line(`\n${title}`);
      if (!await train(values, method, folder, context)) return false;
      folders.push([title, folder]);
    }
    terminal.line();
  }
  const examples = await loadExamples(values);
  using engine = await openEngine(values);
  const { model, tokenizer, params } = await loadModel(name);
  const { valid } = prepareRows(examples, tokenizer, values, {
    context: model.config.max_position_embeddings,
    usual: USUAL_SEQ,
  });
  const adapters = await Promise.all(
    folders.map(([, folder]) => loadPeft(folder, params)),
  );
  const ranks = await Promise.all(adapters.map(rankOf));
  const [most] = ranks;
  if (ranks.some((rank) => rank !== most)) {
    throw new UsageError(
      `--beside ${beside} has rank ${
        ranks[1]
      }, and --adapter ${values.adapter} ${most}; compare adapters of one rank`,
    );
  }
  terminal.line(`model    ${name}: ${describeModel(model.config, params)}`);
  terminal.line(`backend  ${engine.name}\n`);
  terminal.line(
    ["rank", ...folders.map(([title]) => title.padStart(10))].join("  "),
  );
  using score = jit(
    (params: Tree, ids: Tensor, labels: Tensor, b: Tensor) =>
      languageLoss(model, atRank(params, b), ids, labels, {
        reduction: "sum",
      }),
    { name: "the loss at a rank" },
  );
  for (let b = 1; b <= most!; b++) {
    const losses: string[] = [];
    for (const adapter of adapters) {
      const loss = await lossAt(score, adapter, b, valid, {
        batch: values.batch,
        signal,
      });
      losses.push(loss.toFixed(4).padStart(10));
    }
    terminal.line([String(b).padStart(4), ...losses].join("  "));
  }
  return true;
}

/** Trains an adapter with what `sweep` was told, and the defaults of `finetune` otherwise. */
async function train(
  values: Values<SweepOptions>,
  method: "lora" | "dylora",
  out: string,
  context: CommandContext,
): Promise<boolean> {
  const defaults = Object.fromEntries(
    Object.entries(finetuneOptions).map(([name, option]) => [
      name,
      option.fallback,
    ]),
  ) as Values<typeof finetuneOptions>;
  const { adapter: _, beside: __, ...given } = values;
  return await finetune({
    ...defaults,
    ...given,
    method,
    "rank-mode": "full",
    "sample-tokens": 0,
    out,
  }, context);
}

/** The rank of an adapter, which must be one and the same in all layers. */
async function rankOf(tuned: Tree): Promise<number> {
  const ranks = new Set((await report(tuned)).rows.map(({ rank }) => rank));
  const [rank, ...others] = ranks;
  if (others.length === 0) return rank!;
  throw new UsageError(
    `the adapter has layers of ranks ${
      [...ranks].join(", ")
    }; a sweep needs one rank`,
  );
}

/** Mean loss over the labels of held-out rows at a rank. */
async function lossAt(
  score: (params: Tree, ids: Tensor, labels: Tensor, b: Tensor) => Tensor,
  params: Tree,
  rank: number,
  rows: Rows,
  options: { readonly batch: number; readonly signal: AbortSignal },
): Promise<number> {
  const { batch, signal } = options;
  using b = tensor(rank, { dtype: "i32" });
  let sum = 0, count = 0;
  for (const { ids, labels, tokens } of orderedBatches(rows, { batch })) {
    signal.throwIfAborted();
    using x = tensor(ids, { shape: [batch, rows.seq] });
    using y = tensor(labels);
    using loss = score(params, x, y, b);
    sum += await loss.item();
    count += tokens;
    await breathe();
  }
  return sum / count;
}
