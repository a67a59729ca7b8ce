/**
 * Decoding: the next token of each row of a batch, over and over, by one program with a cache of fixed size.
 *
 * Letters: B batch, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  concat,
  type Data,
  jit,
  type Tensor,
  tensor,
  type Tree,
} from "../../core/mod.ts";
import type { Cache, CausalModel } from "../models/mod.ts";
import { uniforms } from "./draws.ts";
import { type Pause, pausing } from "./pause.ts";
import { endsOf, free, prefill } from "./prefill.ts";
import { holdBack, holdsBack } from "./processors.ts";
import { type RequestOptions, stopIds } from "./request.ts";
import { checkChosen, chooseToken, type SamplingOptions } from "./sampling.ts";

/** Most steps in work at once, where reading takes time. */
const MOST_AHEAD = 16;

/** What a step takes over and gives back. */
type State = {
  readonly cache: Cache;
  /** Where the next tokens go: i32, a scalar or [B]. */
  readonly position: Tensor;
};

/** Chooses the next token of each row from logits [B · V], after `count` that were chosen. */
type Choose = (logits: Data, count: number) => Promise<number[]>;

/** A prompt and the key of its draws, which is there where the temperature is above 0. */
export interface Start {
  readonly prompt: readonly number[];
  readonly key: Tensor | null;
}

/** What steps start from. The state is theirs to free. */
interface Work<P extends Tree> {
  readonly model: CausalModel<P>;
  readonly params: P;
  readonly first: State;
  /** The last token of each prompt. */
  readonly last: readonly number[];
  /** Most steps. */
  readonly most: number;
  readonly pause: Pause;
}

/** The next token of each row, until all have ended; null for rows that have, which go on idle. */
export async function* decode<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  starts: readonly Start[],
  options: RequestOptions & SamplingOptions,
): AsyncGenerator<(number | null)[], void, undefined> {
  const { maxNewTokens, signal, temperature = 0 } = options;
  signal?.throwIfAborted();
  if (maxNewTokens === 0 || starts.length === 0) return;
  const stop = new Set(stopIds(options));
  const rows = starts.map(({ prompt, key }) => ({
    ids: [...prompt],
    hasEnded: false,
    draw: temperature > 0 ? uniforms(key!) : null,
  }));
  const choose: Choose = (logits, count) =>
    Promise.all(rows.map(async ({ ids, hasEnded, draw }, i) => {
      if (hasEnded) return 0;
      const size = logits.length / rows.length;
      const own = logits.subarray(i * size, (i + 1) * size);
      const uniform = draw ? await draw(count) : 0;
      return chooseToken(holdBack(own, ids, options), options, uniform);
    }));
  const isPlain = temperature === 0 && !holdsBack(options);
  const prompts = starts.map(({ prompt }) => prompt);
  const pause = pausing(signal);
  const cache = await prefill(model, params, prompts, maxNewTokens, pause);
  const work: Work<P> = {
    model,
    params,
    first: { cache, position: endsOf(prompts) },
    last: prompts.map((prompt) => prompt.at(-1)!),
    most: maxNewTokens,
    pause,
  };
  const steps = isPlain ? likeliest(work) : chosen(work, choose);
  for await (const next of steps) {
    signal?.throwIfAborted();
    yield rows.map(({ hasEnded }, i) => hasEnded ? null : next[i]!);
    rows.forEach((row, i) => {
      row.ids.push(next[i]!);
      row.hasEnded ||= stop.has(next[i]!);
    });
    if (rows.every(({ hasEnded }) => hasEnded)) return;
  }
}

/** Each next token is chosen on the host, from logits that are read back. */
async function* chosen<P extends Tree>(
  { model, params, first, last: prompt, most, pause }: Work<P>,
  choose: Choose,
): AsyncGenerator<readonly number[], void, undefined> {
  let state = first, last = prompt;
  try {
    using step = jit(
      ({ cache, position }: State, ids: Tensor) => {
        const out = model.step(params, ids, { cache, position });
        const next = { cache: out.cache, position: position.add(1) };
        return { state: next, logits: out.logits };
      },
      { donate: [0], name: "a step of generation" },
    );
    for (let count = 0; count < most; count++) {
      await pause();
      using ids = column(last);
      const out = step(state, ids);
      state = out.state;
      using logits = out.logits;
      last = await choose(await logits.data(), count);
      yield last;
    }
  } finally {
    free(state);
  }
}

/**
 * Each next token is the likeliest one, which is found on the device and stays there for the next step. Where reading
 * back takes time, steps are begun before the tokens of those before are known to the host.
 */
async function* likeliest<P extends Tree>(
  { model, params, first, last, most, pause }: Work<P>,
): AsyncGenerator<readonly number[], void, undefined> {
  const size = last.length;
  let state = { ...first, ids: column(last) };
  const readings: Promise<Data>[] = [];
  try {
    using step = jit(
      ({ cache, position, ids }: State & { readonly ids: Tensor }) => {
        const out = model.step(params, ids, { cache, position });
        const logits = out.logits.squeeze(1); // [B, V]
        const id = logits.argmax(); // [B]
        const found = [id.cast("f32"), logits.max({ axis: -1 })];
        return {
          state: {
            cache: out.cache,
            position: position.add(1),
            ids: id.unsqueeze(1),
          },
          // Ids below 2^24 are exact as f32, so that one read brings both.
          found: concat(found),
        };
      },
      { donate: [0], name: "a step of generation" },
    );
    let ahead = 1;
    for (let count = 0, begun = 0; count < most; count++) {
      await pause();
      for (; begun < most && readings.length < ahead; begun++) {
        const out = step(state);
        state = out.state;
        using found = out.found;
        readings.push(found.data());
      }
      if (!await isSettled(readings[0]!)) {
        ahead = Math.min(2 * ahead, MOST_AHEAD);
      }
      const found = await readings.shift()!;
      yield last.map((_, i) => checkChosen(found[i]!, found[size + i]!));
    }
  } finally {
    await Promise.allSettled(readings);
    free(state);
  }
}

/** Whether a promise is settled already, as those of a backend on the CPU are. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  await null;
  return settled;
}

/** A token of each row, i32 [B, 1]. */
function column(ids: readonly number[]): Tensor {
  return tensor(Int32Array.from(ids), { shape: [ids.length, 1] });
}
