/**
 * Beam search: the continuations of a prompt that are likeliest as a whole, as far as a few open ones at a time find them.
 *
 * Letters: B beams, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { jit, type Tensor, tensor, type Tree, tree } from "../../core/mod.ts";
import type { Cache, CausalModel, Model } from "../models/mod.ts";
import {
  extend,
  type Hypothesis,
  type Limits,
  type ScoreOptions,
  START,
} from "./hypotheses.ts";
import { pausing } from "./pause.ts";
import { endsOf, free, prefill } from "./prefill.ts";
import {
  checkRepetition,
  holdBack,
  type RepetitionOptions,
} from "./processors.ts";
import {
  causal,
  checkRequest,
  type RequestOptions,
  stopIds,
} from "./request.ts";

/** Options of `beamSearch`. */
export interface BeamSearchOptions
  extends RequestOptions, RepetitionOptions, ScoreOptions {
  /** How many continuations are open at a time. */
  readonly beams: number;
  /** How many are returned, of at most as many as there are beams; 1. */
  readonly returned?: number;
}

/**
 * The best continuations of a prompt that a beam search finds, best first.
 *
 * At each token the `beams` likeliest continuations stay; one that a stop id ends is finished. The rules are those of
 * Hugging Face's BeamSearchScorer: the penalties for repetition change log-probabilities, which are then no longer
 * normalised. With one beam and without stop ids this is greedy generation. Fewer than `returned` come where there are no
 * more. Throws `RangeError`, `ShapeError` and `TypeError` as `generate` does.
 *
 * @example
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { random } from "cotan";
 * import { beamSearch, llama } from "cotan/nn";
 *
 * const model = llama({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const options = { beams: 4, maxNewTokens: 3, returned: 2 };
 * const [first, second] = await beamSearch(model, params, [1, 2], options);
 * assertEquals(first!.ids.length, 3);
 * assert(first!.score >= second!.score);
 * ```
 */
export function beamSearch<P extends Tree>(
  model: Model<P>,
  params: P,
  ids: ArrayLike<number>,
  options: BeamSearchOptions,
): Promise<Hypothesis[]> {
  const prompt = Array.from(ids);
  const able = causal(model);
  check(options);
  checkRequest(model, [prompt], options);
  return search(able, params, prompt, options);
}

async function search<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  prompt: readonly number[],
  options: BeamSearchOptions,
): Promise<Hypothesis[]> {
  const { beams, maxNewTokens, returned = 1, signal } = options;
  signal?.throwIfAborted();
  if (maxNewTokens === 0) return [{ ids: [], score: 0 }];
  const limits: Limits = { ...options, stop: new Set(stopIds(options)) };
  const pause = pausing(signal);
  const cache = await prefill(model, params, [prompt], maxNewTokens, pause);
  let state: State = { cache, position: endsOf([prompt]) };
  let now = START;
  try {
    using step = stepOf(model, params);
    while (!now.isDone) {
      await pause();
      const { open } = now;
      // Each row is a beam, with the cache of the one it goes on from; where beams are missing the first fills up.
      const rows = Array.from({ length: beams }, (_, i) => open[i] ?? open[0]!);
      const last = rows.map(({ ids }) => ids.at(-1) ?? prompt.at(-1)!);
      const parents = rows.map(({ parent }) => parent);
      using next = tensor(Int32Array.of(...last, ...parents), {
        shape: [2, beams],
      });
      const out = step(state, next);
      state = out.state;
      using logProbs = out.logProbs;
      const found = await logProbs.data();
      const size = found.length / beams;
      const scores = open.map(({ ids }, i) => {
        const own = found.subarray(i * size, (i + 1) * size);
        checkNumbers(own);
        return holdBack(own, [...prompt, ...ids], options);
      });
      now = extend(now, scores, limits);
    }
  } finally {
    free(state);
  }
  signal?.throwIfAborted();
  return now.finished.slice(0, returned);
}

type State = {
  /** Of one row at first, and then of a row for each beam. */
  readonly cache: Cache;
  readonly position: Tensor;
};

/** A step of all beams: `next` has their last tokens and their parents, i32 [2, B]. */
function stepOf<P extends Tree>(model: CausalModel<P>, params: P) {
  return jit(
    ({ cache, position }: State, next: Tensor) => {
      const [ids, parents] = next.split([1, 1], { axis: 0 });
      const rows = parents!.reshape([-1]);
      const out = model.step(params, ids!.reshape([-1, 1]), {
        cache: tree.map((held) => held.take(rows, { axis: 0 }), cache),
        position,
      });
      return {
        state: { cache: out.cache, position: position.add(1) },
        logProbs: out.logits.squeeze(1).logSoftmax(), // [B, V]
      };
    },
    { donate: [0], name: "a step of beam search" },
  );
}

/** A logit that is NaN or infinite makes all log-probabilities NaN. */
function checkNumbers(logProbs: ArrayLike<number>): void {
  if (!Number.isNaN(logProbs[0]!)) return;
  throw new RangeError(
    "Cannot search on: the log-probabilities are NaN, since a logit is NaN or Infinity",
  );
}

function check(options: BeamSearchOptions): void {
  const { beams, returned = 1, lengthPenalty = 1, earlyStopping } = options;
  const fail = (rule: string): never => {
    throw new RangeError(`Cannot search with ${rule}`);
  };
  if (!Number.isInteger(beams) || beams < 1) {
    fail(`${beams} beams: there must be at least 1, a whole number`);
  }
  if (!Number.isInteger(returned) || returned < 1 || returned > beams) {
    fail(
      `returned ${returned}: it must be an integer from 1 to the number of beams, ${beams}`,
    );
  }
  if (!Number.isFinite(lengthPenalty)) {
    fail(`lengthPenalty ${lengthPenalty}: it must be finite`);
  }
  if (![undefined, true, false, "never"].includes(earlyStopping)) {
    fail(`earlyStopping ${earlyStopping}: it must be true, false or "never"`);
  }
  checkRepetition(options);
}
