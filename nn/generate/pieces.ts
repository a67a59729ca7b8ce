/**
 * Text from tokens as they come: pieces of whole characters, up to a text that ends it.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** What stands for bytes that are no character, or not yet. */
const INCOMPLETE = "\uFFFD";

/** A text that comes in parts: each is given in, and what can be given out comes back. */
export interface Passing<T> {
  /** The text that can be given out now; empty where nothing is sure yet. */
  push(part: T): string;
  /** What is held back, where no more comes. */
  rest(): string;
}

/**
 * The text that each token adds behind a prompt. A character of several tokens comes with the last of them; one that is
 * still incomplete at the end is left out.
 */
export function textOf(
  decode: (ids: readonly number[]) => string,
  prompt: readonly number[],
): Passing<number> {
  // Decoded with what was given out last, since the start of a text may be treated in a way of its own.
  let known = prompt, waiting: number[] = [];
  let shown = decode(known), text = shown;
  return {
    push(id) {
      waiting.push(id);
      text = decode([...known, ...waiting]);
      if (text.length <= shown.length || text.endsWith(INCOMPLETE)) return "";
      const piece = text.slice(shown.length);
      known = waiting;
      waiting = [];
      shown = text = decode(known);
      return piece;
    },
    rest: () => text.slice(shown.length).replace(/\uFFFD+$/, ""),
  };
}

/** Such a text that may end before its parts do. */
export interface Ending extends Passing<string> {
  /** Whether a stop text has come. */
  hasEnded(): boolean;
}

/**
 * Lets text pass up to the stop text that is complete first, however the text is cut. What may be the start of one is
 * held back until it is known not to be.
 */
export function untilStop(stop: readonly string[]): Ending {
  let held = "", hasEnded = false;
  return {
    push(part) {
      if (hasEnded) return "";
      held += part;
      const end = startOfStop(held, stop);
      hasEnded = end !== null;
      const passing = end ?? held.length - unsure(held, stop);
      const text = held.slice(0, passing);
      held = hasEnded ? "" : held.slice(passing);
      return text;
    },
    rest: () => held,
    hasEnded: () => hasEnded,
  };
}

/** Where the stop text starts that is complete first, or null. */
function startOfStop(text: string, stop: readonly string[]): number | null {
  const found = stop.flatMap((s) => {
    const start = text.indexOf(s);
    return start < 0 ? [] : [{ start, end: start + s.length }];
  }).sort((a, b) => a.end - b.end || a.start - b.start);
  return found[0]?.start ?? null;
}

/** Length of the longest end of a text that is the start of a stop text. */
function unsure(text: string, stop: readonly string[]): number {
  const longest = Math.max(0, ...stop.map(({ length }) => length - 1));
  for (let n = Math.min(longest, text.length); n > 0; n--) {
    const end = text.slice(-n);
    if (stop.some((s) => s.startsWith(end))) return n;
  }
  return 0;
}
