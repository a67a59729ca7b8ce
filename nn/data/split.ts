/**
 * Held-out examples, for data that comes without them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import type { Example } from "./examples.ts";

/**
 * Holds out every n-th example, n = 1 / fraction. Examples of one prompt stay together, so that no held-out prompt was
 * trained on; a single text gives up its end.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { holdOut } from "cotan/nn";
 *
 * const texts = ["one", "two", "three", "four"].map((text) => ({ text }));
 * const { train, valid } = holdOut(texts, { fraction: 0.25 });
 * assertEquals(train.length, 3);
 * assertEquals(valid, [{ text: "four" }]);
 * ```
 */
export function holdOut(
  examples: readonly Example[],
  options: { readonly fraction?: number } = {},
): { readonly train: Example[]; readonly valid: Example[] } {
  const { fraction = 0.05 } = options;
  if (!(fraction > 0 && fraction <= 0.5)) {
    throw new RangeError(
      `Cannot hold out a fraction ${fraction}: it must be above 0 and at most 0.5`,
    );
  }
  const groups = groupByPrompt(examples);
  if (groups.length === 1) {
    const only = examples[0]!;
    if ("text" in only) return cutText(only.text, fraction);
    throw new FormatError(
      "Cannot hold out examples: all have the same prompt; give held-out examples of their own",
    );
  }
  const every = Math.min(Math.round(1 / fraction), groups.length);
  const isHeldOut = (_: unknown, i: number): boolean => i % every === every - 1;
  return {
    train: groups.filter((group, i) => !isHeldOut(group, i)).flat(),
    valid: groups.filter(isHeldOut).flat(),
  };
}

function groupByPrompt(examples: readonly Example[]): Example[][] {
  const groups = new Map<unknown, Example[]>();
  for (const example of examples) {
    const key = "prompt" in example ? example.prompt : example;
    const group = groups.get(key);
    if (group) group.push(example);
    else groups.set(key, [example]);
  }
  return [...groups.values()];
}

/** Cuts at the last line break before the fraction, or the last space where there is none near. */
function cutText(
  text: string,
  fraction: number,
): { train: Example[]; valid: Example[] } {
  const target = Math.floor(text.length * (1 - fraction));
  const line = text.lastIndexOf("\n", target);
  const space = text.lastIndexOf(" ", target);
  const at = line > target / 2 ? line : space > 0 ? space : target;
  const [train, valid] = [text.slice(0, at + 1), text.slice(at + 1)];
  if (train.trim() === "" || valid.trim() === "") {
    throw new FormatError(
      "Cannot hold out the end of the text: it is too short; give held-out text of its own",
    );
  }
  return { train: [{ text: train }], valid: [{ text: valid }] };
}
