/**
 * Beam search as Hugging Face's BeamSearchScorer tells it, in whole sequences and sorted lists.
 *
 * @module
 */

import type { BeamSearchOptions, Hypothesis } from "cotan/nn";

/** The best continuations; `scoresAfter` gives the log-probabilities behind new tokens. */
export async function slowBeamSearch(
  scoresAfter: (ids: readonly number[]) => number[] | Promise<number[]>,
  options: BeamSearchOptions,
): Promise<Hypothesis[]> {
  const { beams, maxNewTokens, earlyStopping = false, returned = 1 } = options;
  const { lengthPenalty = 1 } = options;
  const stop = [options.stop ?? []].flat();
  const normed = (sum: number, length: number) =>
    sum / Math.pow(length, lengthPenalty);
  let running = [{ ids: [] as number[], sum: 0 }];
  const done: Hypothesis[] = [];
  const add = (ids: number[], sum: number) => {
    done.push({ ids, score: normed(sum, ids.length) });
    done.sort((a, b) => b.score - a.score);
    done.splice(beams);
  };
  for (let length = 1;; length++) {
    const all: { ids: number[]; sum: number }[] = [];
    for (const { ids, sum } of running) {
      const scores = await scoresAfter(ids);
      scores.forEach((score, id) => {
        if (score > -Infinity) {
          all.push({ ids: [...ids, id], sum: sum + score });
        }
      });
    }
    all.sort((a, b) => b.sum - a.sum);
    all.splice(beams * Math.max(2, 1 + stop.length));
    running = [];
    all.forEach(({ ids, sum }, rank) => {
      if (running.length === beams) return;
      if (!stop.includes(ids.at(-1)!)) running.push({ ids, sum });
      else if (rank < beams) add(ids, sum);
    });
    if (done.length === beams) {
      const reach = earlyStopping === "never" && lengthPenalty > 0
        ? maxNewTokens
        : length;
      const isOver = earlyStopping === true ||
        done.at(-1)!.score >= normed(all[0]!.sum, reach);
      if (isOver) return done.slice(0, returned);
    }
    if (length < maxNewTokens && running.length > 0) continue;
    for (const { ids, sum } of running) add(ids, sum);
    return done.slice(0, returned);
  }
}
