/**
 * Copies of the base's own tables in PEFT's files: it adds them where an embedding or the output head is a target.
 *
 * @module
 */

import { FormatError, scope, type Tensor } from "../core/mod.ts";
import { dense, type Weight } from "../nn/quantized.ts";
import { isHead, isTied, kindOf, type Layer } from "./layers.ts";
import { ROOT } from "./peft_tensors.ts";

/** The weights of the base, by name, of which a file has copies. `isTaken` says which names are of the adapter. */
export function copiesIn(
  names: Iterable<string>,
  layers: readonly Layer[],
  moduleOf: (path: string) => string,
  isTaken: (name: string) => boolean,
): ReadonlyMap<string, Weight> {
  const tables = new Map(
    layers.filter((layer) => isHead(layer) || kindOf(layer) === "embedding")
      .map(({ path, weight }) => [moduleOf(path), weight]),
  );
  const tied = layers.find((layer) => isTied(layer, layers));
  if (tied) tables.set("lm_head", tied.weight);
  return new Map(
    [...names].flatMap((name): [string, Weight][] => {
      const module = /^(.*?)(?:\.base_layer)?\.weight$/
        .exec(name.slice(ROOT.length))?.[1];
      const weight = module === undefined ? undefined : tables.get(module);
      return weight && !isTaken(name) ? [[name, weight]] : [];
    }),
  );
}

/** Frees the copies of a file. Throws `FormatError` where one is not what the base has. */
export async function checkCopies(
  copies: ReadonlyMap<string, Weight>,
  tensors: Readonly<Record<string, Tensor>>,
  what: string,
): Promise<void> {
  for (const [name, weight] of copies) {
    const copy = tensors[name]!;
    using table = scope(() => dense(weight).mul(1));
    const [own, base] = await Promise.all([copy.data(), table.data()]);
    if (own.some((x, i) => x !== base[i])) {
      throw new FormatError(
        `Cannot load ${what}: its ${name} is a table of the base, and differs from the model's; load the base that it has, or save it in Python with save_embedding_layers=False`,
      );
    }
    copy.dispose();
  }
}
