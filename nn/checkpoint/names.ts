/**
 * Names in files that are not those of parameters: prefixes left out, old spellings, buffers, tied copies and heads.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError, type Shape } from "../../core/mod.ts";

/** What a model tells of its parameters. */
export interface Named {
  /** Shape of each parameter by its path; the base comes before the heads. */
  readonly shapes: Readonly<Record<string, Shape>>;
  /** The configuration. */
  readonly config: { readonly [key: string]: unknown };
}

/** Spellings of checkpoints that were converted from TensorFlow. */
const RENAMED: readonly (readonly [RegExp, string])[] = [
  [/\bLayerNorm\.gamma$/, "LayerNorm.weight"],
  [/\bLayerNorm\.beta$/, "LayerNorm.bias"],
];

/** No parameters: masks, positions and frequencies that older versions of transformers saved. */
const BUFFER =
  /(?:^|\.)(?:attn\.(?:masked_)?bias|rotary_emb\.inv_freq|position_ids)$/;

/** Copies of other tensors, unless the configuration says that nothing is tied. */
const TIED =
  /^(?:lm_head\.weight|vocab_projector\.weight|(?:lm_head|cls\.predictions)\.decoder\.(?:weight|bias))$/;

/** Parts of BertForPreTraining that classes for one task do not have. */
const PRETRAINING = /^(?:cls\.seq_relationship|(?:\w+\.)?pooler)\./;

/** The path of each tensor of a file, null for what is no parameter; tensors that fit nowhere have none. */
export function pathsOf(
  { shapes, config }: Named,
  names: Iterable<string>,
  file: string,
): Map<string, string | null> {
  const prefixes = ["", ...new Set(Object.keys(shapes).map(firstPart))];
  const isTied = config.tie_word_embeddings !== false;
  const paths = new Map<string, string | null>();
  const taken = new Map<string, string>();
  for (const name of names) {
    const spelled = RENAMED.reduce(
      (name, [old, now]) => name.replace(old, now),
      name,
    );
    const path = prefixes.map((prefix) => prefix + spelled)
      .find((path) => Object.hasOwn(shapes, path));
    if (path === undefined) {
      // Only what the model lacks: a model with a pooler takes the file's.
      const isKnown = BUFFER.test(name) || isTied && TIED.test(name) ||
        PRETRAINING.test(name);
      if (isKnown) paths.set(name, null);
      continue;
    }
    const other = taken.get(path);
    if (other !== undefined) {
      throw new FormatError(
        `Cannot load ${file}: both ${other} and ${name} are ${path}`,
      );
    }
    taken.set(path, name);
    paths.set(name, path);
  }
  return paths;
}

/**
 * Whether a name is that of a head, as a predicate: it lies outside the base, which the first parameter is in, or in
 * its pooler, which classes for some tasks leave out.
 */
export function headsOf({ shapes }: Named): (name: string) => boolean {
  const paths = Object.keys(shapes);
  const base = paths.length > 0 ? firstPart(paths[0]!) : "";
  // Parts of the base, whose names may stand without its prefix.
  const parts = new Set(
    paths.filter((path) => path.startsWith(base))
      .map((path) => firstPart(path.slice(base.length))),
  );
  return (name) =>
    PRETRAINING.test(name) ||
    !name.startsWith(base) && !parts.has(firstPart(name));
}

function firstPart(path: string): string {
  return path.slice(0, path.indexOf(".") + 1);
}
