/**
 * The bookkeeping of beam search: open beams, finished hypotheses, and when nothing better can come.
 *
 * The rules are those of Hugging Face's BeamSearchScorer, so that equal log-probabilities give equal results.
 *
 * Letters: V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { largest } from "./ranking.ts";

/** How hypotheses are compared, and when the search ends. */
export interface ScoreOptions {
  /** The sum of log-probabilities is divided by the number of new tokens to this power; 1. Above 0 favours long texts. */
  readonly lengthPenalty?: number;
  /**
   * When the search ends, once there are as many finished hypotheses as beams: at once where true; where none of the open
   * beams would beat the worst of them if it ended now, for false, the default; where none can beat it at any length, for
   * "never".
   */
  readonly earlyStopping?: boolean | "never";
}

/** A continuation. */
export interface Hypothesis {
  /** The new tokens; an id that ends the generation is the last. */
  readonly ids: readonly number[];
  /** The sum of their log-probabilities over their number to the power of lengthPenalty. */
  readonly score: number;
}

/** A continuation that is open. */
export interface Beam {
  /** The new tokens. */
  readonly ids: readonly number[];
  /** Sum of their log-probabilities. */
  readonly sum: number;
  /** Which of the beams before it goes on from. */
  readonly parent: number;
}

/** The state of a search. */
export interface Search {
  /** Open beams, best first. */
  readonly open: readonly Beam[];
  /** Finished hypotheses, best first, no more than there are beams. */
  readonly finished: readonly Hypothesis[];
  /** Whether it has come to its end. */
  readonly isDone: boolean;
}

/** What a search is limited by. */
export interface Limits extends ScoreOptions {
  /** Most open beams, and most finished hypotheses. */
  readonly beams: number;
  /** Most new tokens. */
  readonly maxNewTokens: number;
  /** Ids that end a hypothesis. */
  readonly stop: ReadonlySet<number>;
}

/** A search at its beginning: one beam without a token. */
export const START: Search = {
  open: [{ ids: [], sum: 0, parent: 0 }],
  finished: [],
  isDone: false,
};

/** The search a token further; `scores` has the log-probabilities [V] after each open beam. */
export function extend(
  { open, finished }: Search,
  scores: readonly ArrayLike<number>[],
  limits: Limits,
): Search {
  const { beams, maxNewTokens, stop } = limits;
  const size = scores[0]!.length, length = open[0]!.ids.length + 1;
  const sums = new Float64Array(open.length * size);
  open.forEach(({ sum }, parent) => {
    const own = scores[parent]!;
    for (let id = 0; id < size; id++) sums[parent * size + id] = sum + own[id]!;
  });
  // Enough for all beams to go on even if each candidate of one that ends is better.
  const most = Math.max(2, 1 + stop.size) * beams;
  const candidates = largest(sums, most, -Number.MAX_VALUE);
  const next: Beam[] = [];
  let done = finished;
  for (const [rank, at] of candidates.entries()) {
    const parent = Math.floor(at / size), id = at % size;
    const ids = [...open[parent]!.ids, id], sum = sums[at]!;
    if (!stop.has(id)) next.push({ ids, sum, parent });
    else if (rank < beams) {
      done = keepBest(
        done,
        { ids, score: scoreOf(sum, length, limits) },
        beams,
      );
    }
    if (next.length === beams) break;
  }
  if (candidates.length === 0 && finished.length === 0) {
    throw new RangeError(
      `Cannot search on after ${length - 1} tokens: noRepeatNgram leaves none`,
    );
  }
  if (isSettled(done, sums[candidates[0]!]!, length, limits)) {
    return { open: next, finished: done, isDone: true };
  }
  if (length < maxNewTokens) {
    return { open: next, finished: done, isDone: next.length === 0 };
  }
  const all = next.reduce((kept, { ids, sum }) => {
    const score = scoreOf(sum, length, limits);
    return keepBest(kept, { ids, score }, beams);
  }, done);
  return { open: next, finished: all, isDone: true };
}

/** Whether finished hypotheses are so many and so good that the search ends; `sum` is that of the best candidate. */
function isSettled(
  finished: readonly Hypothesis[],
  sum: number,
  length: number,
  limits: Limits,
): boolean {
  const { beams, maxNewTokens, earlyStopping = false } = limits;
  if (finished.length < beams) return false;
  if (earlyStopping === true) return true;
  const isLong = earlyStopping === "never" && (limits.lengthPenalty ?? 1) > 0;
  const reachable = scoreOf(sum, isLong ? maxNewTokens : length, limits);
  return finished.at(-1)!.score >= reachable;
}

function scoreOf(
  sum: number,
  length: number,
  { lengthPenalty = 1 }: ScoreOptions,
): number {
  return sum / length ** lengthPenalty;
}

/** Hypotheses with another in its place, no more than `most`; of equal ones the first stays. */
function keepBest(
  kept: readonly Hypothesis[],
  added: Hypothesis,
  most: number,
): readonly Hypothesis[] {
  const behind = kept.findIndex(({ score }) => score < added.score);
  return kept.toSpliced(behind < 0 ? kept.length : behind, 0, added)
    .slice(0, most);
}
