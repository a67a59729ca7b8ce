/**
 * Saving of adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.
 *
 * @module
 */

import {
  scope,
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../core/mod.ts";
import type { Adapter } from "../nn/adapter_forms.ts";
import { join, type Path, replaceFiles } from "../nn/checkpoint/files.ts";
import { writeSafetensors } from "../nn/checkpoint/safetensors_save.ts";
import { FINGERPRINT, fingerprintOf } from "./fingerprint.ts";
import { kindOf, type Layer, layersOf } from "./layers.ts";
import { adaptedLayers } from "./loras.ts";
import { activate, adapterNames, checkNames } from "./named.ts";
import { CONFIG, WEIGHTS } from "./peft_load.ts";
import { type PlainAdapter, plainAdapter } from "./peft_plain.ts";
import { type TensorKey, tensorNames } from "./peft_tensors.ts";
import { type AdapterInfo, writePeftConfig } from "./peft_write.ts";

const WHAT = "save adapters";

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
}

/** An adapter that is to be saved. */
interface Piece extends PlainAdapter {
  readonly layer: Layer;
}

/**
 * Saves the adapter of a model as a folder that PEFT and `loadPeft` load. Files are replaced only when both are written.
 *
 * PEFT has no adapters of slices: they are written as one of the whole weight, whose rank is the sum of theirs, which
 * changes the weight by the same. Adapters of PiSSA stand on another base: make them ordinary ones by `fromPissa`. The metadata of the tensors hold a fingerprint of the weights that were adapted.
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
  const pieces = scope(() =>
    adaptedLayers(model, WHAT).map((layer) => ({
      layer,
      ...plainAdapter(layer, layer.lora as Adapter),
    }))
  );
  try {
    const infos = await Promise.all(pieces.map(infoOf));
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
      pieces.map(({ layer: { path, weight } }) => ({ name: path, weight })),
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
    const made = pieces.map(({ leaves }) => leaves);
    for (const { leaf } of trees.leaves(made)) {
      if (!own.has(leaf)) leaf.dispose();
    }
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
