/**
 * Adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.
 *
 * @module
 */

import {
  format,
  FormatError,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import {
  exists,
  join,
  type Path,
  readJson,
  replaceFiles,
  show,
} from "../nn/checkpoint/files.ts";
import { checkFit } from "../nn/checkpoint/fit.ts";
import {
  inspectSafetensors,
  loadSafetensors,
  type TensorInfo,
} from "../nn/checkpoint/safetensors.ts";
import { typeOf } from "../nn/checkpoint/safetensors_data.ts";
import { writeSafetensors } from "../nn/checkpoint/safetensors_save.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import {
  kindOf,
  type Layer,
  layersOf,
  mapLayers,
  sizesOf,
  whyNotAdaptable,
} from "./layers.ts";
import { type AdaptedLayer, adaptedLayers, plainLora } from "./loras.ts";
import {
  isTarget,
  type PeftConfig,
  rankAt,
  readPeftConfig,
  scaleAt,
} from "./peft_config.ts";
import { writePeftConfig } from "./peft_write.ts";
import { linearPaths } from "./targets.ts";

const CONFIG = "adapter_config.json";
const WEIGHTS = "adapter_model.safetensors";
/** A pickle, which can run code when it is read. */
const PICKLE = "adapter_model.bin";

/** What `savePeft` writes beside the adapters. */
export interface SavePeftOptions {
  /** Name or folder of the model that the adapter is for. */
  readonly baseModel?: string;
  /** PEFT's name of the task, such as "CAUSAL_LM" or "SEQ_CLS". */
  readonly taskType?: string;
}

/**
 * Saves the adapters of a model as a folder that PEFT and `loadPeft` load. Files are replaced only when both are
 * written.
 *
 * Throws `TreeError` where there is no adapter.
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
  const { baseModel = null, taskType = null } = options;
  const layers = adaptedLayers(tuned, "save adapters")
    .map((layer) => ({ ...layer, lora: savable(layer) }));
  const infos = await Promise.all(layers.map(async ({ path, lora }) => {
    const scale = await lora.scale.item();
    return { path, rank: lora.a.shape[0]!, scale };
  }));
  const paths = layersOf(tuned).map(({ path }) => path);
  const config = writePeftConfig(infos, paths, {
    baseModel,
    taskType,
    fanInFanOut: layers.some((layer) => kindOf(layer) === "conv1D"),
  });
  const tensors: Record<string, Tensor> = {};
  for (const { path, lora: { a, b } } of layers) {
    const names = namesOf(path);
    tensors[names.a] = a;
    tensors[names.b] = b;
  }
  await Deno.mkdir(folder, { recursive: true });
  await replaceFiles([
    {
      path: join(folder, WEIGHTS),
      content: (file) =>
        writeSafetensors(file, tensors, { metadata: { format: "pt" } }),
    },
    {
      path: join(folder, CONFIG),
      content: `${JSON.stringify(config, null, 2)}\n`,
    },
  ]);
}

/** The adapter of a layer, of a form that can be saved so far. */
function savable(layer: AdaptedLayer): Lora {
  const lora = plainLora(layer);
  if (lora && kindOf(layer) !== "embedding") return lora;
  throw new TreeError(
    `Cannot save adapters: the one at ${layer.path} is ${
      lora ? "of an embedding" : "more than a, b and scale"
    }, which is not supported yet`,
  );
}

/**
 * The model with the adapter of a PEFT folder, with the ranks and scales that its configuration gives.
 *
 * Throws `FormatError` where a file is missing or malformed, where the configuration asks for what is not supported
 * yet, or where the tensors are not exactly those of the targets, which it lists; `TreeError` where a target is no
 * linear layer.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { FormatError, zeros } from "cotan";
 * import { loadPeft } from "cotan/lora";
 *
 * const params = { q_proj: { weight: zeros([6, 4]) } };
 * await assertRejects(() => loadPeft("no/such/folder", params), FormatError);
 * ```
 */
export async function loadPeft<T extends Tree>(
  folder: Path,
  params: T,
): Promise<T> {
  const what = `an adapter from ${show(folder)}`;
  const config = await loadConfig(folder, what);
  const targets = targetsOf(config, params, what);
  const path = join(folder, WEIGHTS);
  if (!await exists(path) && await exists(join(folder, PICKLE))) {
    throw new FormatError(
      `Cannot load ${what}: ${PICKLE} is a pickle, which can run code; convert it in Python by loading it with PEFT ` +
        `and model.save_pretrained(folder, safe_serialization=True)`,
    );
  }
  checkTensors(config, targets, await inspectSafetensors(path), show(path));
  const tensors = await loadSafetensors(path);
  const chosen = new Set(targets.map(({ path }) => path));
  return mapLayers(params, ({ path, node }) => {
    if (!chosen.has(path)) return node;
    const names = namesOf(path);
    const scale = tensor(scaleAt(config, path));
    const lora = { a: tensors[names.a]!, b: tensors[names.b]!, scale };
    return { ...node, lora };
  });
}

async function loadConfig(folder: Path, what: string): Promise<PeftConfig> {
  const path = join(folder, CONFIG);
  if (!await exists(path)) {
    throw new FormatError(
      `Cannot load ${what}: there is no ${CONFIG}; expected a folder with ${CONFIG} and ${WEIGHTS}`,
    );
  }
  return readPeftConfig(await readJson(path), show(path));
}

function targetsOf(config: PeftConfig, params: Tree, what: string): Layer[] {
  const layers = layersOf(params);
  const linear = linearPaths(layers);
  const targets = layers.filter(({ path }) => isTarget(config, path, linear));
  if (targets.length === 0) {
    const some = layers.slice(0, 8).map(({ path }) => path).join(", ");
    throw new FormatError(
      `Cannot load ${what}: target_modules ${
        JSON.stringify(config.targets)
      } take none of the model's ${layers.length} layers, such as ${some}`,
    );
  }
  for (const layer of targets) {
    const why = layer.node.lora
      ? "it has an adapter already; use mergeAdapters or dropAdapters first"
      : whyNotLoadable(layer);
    if (why) throw new TreeError(`Cannot adapt ${layer.path}: ${why}`);
  }
  return targets;
}

function whyNotLoadable(layer: Layer): string | null {
  return kindOf(layer) === "embedding"
    ? "it is an embedding, and adapters of embeddings are not loaded yet"
    : whyNotAdaptable(layer);
}

function checkTensors(
  config: PeftConfig,
  targets: readonly Layer[],
  infos: Readonly<Record<string, TensorInfo>>,
  file: string,
): void {
  const expected = new Map(targets.flatMap((layer) => {
    const { path } = layer;
    const { into, out } = sizesOf(layer, kindOf(layer));
    const rank = rankAt(config, path), names = namesOf(path);
    return [
      [names.a, format({ dtype: "f32", shape: [rank, into] })],
      [names.b, format({ dtype: "f32", shape: [out, rank] })],
    ];
  }));
  const found = Object.entries(infos).map(([name, info]) =>
    [name, typeOf(info)] as const
  );
  checkFit(file, expected, new Map(found));
}

/** Names of the factors of a layer in adapter_model.safetensors. */
function namesOf(path: string): { a: string; b: string } {
  const at = `base_model.model.${path}`;
  return { a: `${at}.lora_A.weight`, b: `${at}.lora_B.weight` };
}
