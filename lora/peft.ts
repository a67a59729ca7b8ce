/**
 * Saving of adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.
 *
 * @module
 */

import {
  concat,
  random,
  scope,
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../core/mod.ts";
import type { Adapter } from "../nn/adapter_forms.ts";
import { join, type Path, replaceFiles } from "../nn/checkpoint/files.ts";
import { writeSafetensors } from "../nn/checkpoint/safetensors.ts";
import { FINGERPRINT, fingerprintOf } from "./fingerprint.ts";
import { kindOf, type Layer, layersOf, oriented } from "./layers.ts";
import { adaptedLayers } from "./loras.ts";
import { activate, adapterNames, checkNames } from "./named.ts";
import { CONFIG, WEIGHTS } from "./peft_load.ts";
import { type PlainAdapter, plainAdapter } from "./peft_plain.ts";
import { type TensorKey, tensorNames } from "./peft_tensors.ts";
import { type AdapterInfo, writePeftConfig } from "./peft_write.ts";
import { principal } from "./pissa.ts";

const WHAT = "save adapters";

/** Iterations that find the part that was taken out of a weight, which has no more than the adapter's rank. */
const ITERATIONS = 2;

/** What `savePeft` writes, and what it writes beside the adapters. */
export interface SavePeftOptions {
  /** Name or folder of the model that the adapter is for. */
  readonly baseModel?: string;
  /** PEFT's name of the task, such as "CAUSAL_LM" or "SEQ_CLS". */
  readonly taskType?: string;
  /** Version of the model that the adapter is for. */
  readonly revision?: string;
  /** Which adapter is saved, where there are several by name. */
  readonly name?: string;
  /**
   * The parameters before `lora`, where that changed them, as PiSSA does: the adapter is written for these, at twice its
   * rank.
   */
  readonly original?: Tree;
}

/** An adapter that is to be saved. */
interface Piece extends PlainAdapter {
  readonly layer: Layer;
}

/**
 * Saves the adapter of a model as a folder that PEFT and `loadPeft` load. Files are replaced only when both are written.
 *
 * PEFT has no adapters of slices: they are written as one of the whole weight, whose rank is the sum of theirs, which
 * changes the weight by the same. The metadata of the tensors hold a fingerprint of the weights that were adapted.
 *
 * Throws `TreeError` where there is no adapter, or one that PEFT has no form for: one of DyLoRA, a stack, several by name
 * of which none is asked for, biases of some layers, scales that are no numbers, or dropout that differs.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tree, zeros } from "cotan";
 * import { loadPeft, lora, savePeft } from "cotan/lora";
 *
 * const params = { model: { q_proj: { weight: zeros([6, 4]) } } };
 * const key = random.key(0);
 * const tuned = lora(params, { targets: "q_proj", rank: 2, alpha: 4, key });
 * const folder = await Deno.makeTempDir();
 * await savePeft(folder, tuned, { baseModel: "me/my-model" });
 * const again = await loadPeft(folder, params);
 * assertEquals(
 *   tree.leaves(again).map(({ path }) => path),
 *   tree.leaves(tuned).map(({ path }) => path),
 * );
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function savePeft(
  folder: Path,
  tuned: Tree,
  options: SavePeftOptions = {},
): Promise<void> {
  const { baseModel = null, taskType = null, revision = null } = options;
  const model = chosen(tuned, options.name);
  const before = originals(model, options.original);
  const plain = scope(() =>
    adaptedLayers(model, WHAT).map((layer) => ({
      layer,
      ...plainAdapter(layer, layer.lora as Adapter),
    }))
  );
  const made: Tree[] = [plain.map(({ leaves }) => leaves)];
  try {
    const infos = await Promise.all(plain.map(infoOf));
    const pieces = scope(() =>
      plain.map((piece, i) => against(before, piece, infos[i]!))
    );
    made.push(pieces.map(({ leaves }) => leaves));
    const config = writePeftConfig(
      pieces.map((piece, i) => ({ ...infos[i]!, ...sizesOf(piece) })),
      layersOf(model).map(({ path, node }) => ({
        path,
        hasBias: node.bias !== null && node.bias !== undefined,
      })),
      {
        baseModel,
        taskType,
        revision,
        fanInFanOut: pieces.some(({ layer }) => kindOf(layer) === "conv1D"),
      },
    );
    const base = await fingerprintOf(
      pieces.map(({ layer: { path, weight } }) => ({
        name: path,
        weight: before?.get(path) ?? weight,
      })),
    );
    const metadata = { format: "pt", [FINGERPRINT]: base };
    const tensors = Object.fromEntries(pieces.flatMap(tensorsOf));
    await Deno.mkdir(folder, { recursive: true });
    await replaceFiles([
      {
        path: join(folder, WEIGHTS),
        content: (file) => writeSafetensors(file, tensors, { metadata }),
      },
      {
        path: join(folder, CONFIG),
        content: `${JSON.stringify(config, null, 2)}\n`,
      },
    ]);
  } finally {
    const own = new Set(trees.leaves(tuned).map(({ leaf }) => leaf));
    const other = new Set(trees.leaves(made).map(({ leaf }) => leaf));
    for (const leaf of other.difference(own)) leaf.dispose();
  }
}

/** The model with the one adapter that is to be saved, which has no name there. */
function chosen(tuned: Tree, name: string | undefined): Tree {
  if (name !== undefined) {
    checkNames(tuned, WHAT, [name]);
    return activate(tuned, name);
  }
  adaptedLayers(tuned, WHAT);
  const names = adapterNames(tuned);
  if (names.length === 0) return tuned;
  if (names.length === 1) return activate(tuned, names[0]!);
  throw new TreeError(
    `Cannot save adapters: there are several, ${
      names.join(", ")
    }, and PEFT has a folder for each; pass name`,
  );
}

/** The weights before `lora` by path. */
function originals(
  model: Tree,
  original: Tree | undefined,
): ReadonlyMap<string, Tensor> | null {
  if (original === undefined) return null;
  const before = new Map(
    layersOf(original).map(({ path, weight }) => [path, weight]),
  );
  for (const { path, weight } of layersOf(model)) {
    if (String(before.get(path)) === String(weight)) continue;
    throw new TreeError(
      `Cannot save adapters: the weight at ${path} is ${weight}, and the original is ${
        before.get(path) ?? "absent"
      }`,
    );
  }
  return before;
}

/** The one scale and rate of an adapter, read back. */
async function infoOf(
  { layer, scales, rates }: Piece,
): Promise<Pick<AdapterInfo, "path" | "scale" | "dropout">> {
  const { path } = layer;
  const one = async (what: string, tensors: readonly Tensor[]) => {
    const values = await Promise.all(tensors.map((x) => x.item()));
    const [first = null, ...others] = new Set(values.map(Math.fround));
    if (others.length === 0) return first;
    throw new TreeError(
      `Cannot save adapters: the slices at ${path} have the ${what} ${
        [first, ...others].join(", ")
      }, and PEFT has one`,
    );
  };
  const scale = await one("scales", scales);
  if (scale !== null && !Number.isFinite(scale)) {
    throw new TreeError(
      `Cannot save adapters: the scale of the one at ${path} is ${scale}`,
    );
  }
  const rate = await one("rates of dropout", rates);
  // Adapters of embeddings have none, whatever the others have.
  return {
    path,
    scale,
    dropout: kindOf(layer) === "embedding" ? null : rate ?? 0,
  };
}

/**
 * An adapter of the weight W₀ that was there before, from one with factors a and b of another weight W: with
 * W₀ - W = s b₀ a₀ it is s [b, -b₀] [a; a₀].
 */
function against(
  before: ReadonlyMap<string, Tensor> | null,
  piece: Piece,
  { scale }: Pick<AdapterInfo, "scale">,
): Piece {
  const { layer, leaves } = piece, { a, b, magnitude } = leaves;
  const original = before?.get(layer.path);
  if (!original || original === layer.weight || !a || !b) return piece;
  if (magnitude || !(scale! > 0)) {
    throw new TreeError(
      `Cannot save adapters: the base of the one at ${layer.path} has changed, and ${
        magnitude ? "DoRA's lengths rest on it" : `its scale is ${scale}`
      }`,
    );
  }
  const taken = oriented(original.sub(layer.weight), kindOf(layer));
  const rest = principal(taken, random.key(0), {
    rank: a.shape[0]!,
    scale: scale!,
    iterations: ITERATIONS,
  });
  return {
    ...piece,
    leaves: {
      ...leaves,
      a: concat([a, rest.a]),
      b: concat([b, rest.b.mul(-1)], { axis: 1 }),
    },
  };
}

function sizesOf(
  { leaves }: Piece,
): Omit<AdapterInfo, "path" | "scale" | "dropout"> {
  const { a, magnitude, weight, bias } = leaves;
  return {
    rank: a?.shape[0] ?? null,
    dora: magnitude !== undefined,
    saves: weight ? "all" : bias ? "bias" : "none",
  };
}

function tensorsOf({ layer, leaves }: Piece): [string, Tensor][] {
  const names = tensorNames(layer.path, kindOf(layer));
  return Object.entries(leaves).map((
    [key, leaf],
  ) => [names[key as TensorKey], leaf]);
}
