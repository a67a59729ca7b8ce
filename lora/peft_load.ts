/**
 * Loading of adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.
 *
 * @module
 */

import { FormatError, type Tensor, tensor, type Tree } from "../core/mod.ts";
import type { Adapter } from "../nn/adapter_forms.ts";
import {
  exists,
  join,
  type Path,
  readJson,
  show,
} from "../nn/checkpoint/files.ts";
import { inspectSafetensors } from "../nn/checkpoint/safetensors.ts";
import { shapeOf } from "../nn/quantized.ts";
import {
  disposeAll,
  type LoadAdapterOptions,
  readExactly,
} from "./adapter_file.ts";
import { FINGERPRINT, fingerprintOf } from "./fingerprint.ts";
import { mapLayers } from "./layers.ts";
import { withAdapter } from "./loras.ts";
import { checkName } from "./options.ts";
import { type PeftConfig, readPeftConfig } from "./peft_config.ts";
import { checkCopies } from "./peft_copies.ts";
import { scaleAt } from "./peft_match.ts";
import { expectedOf, type Piece, piecesOf } from "./peft_pieces.ts";
import { canonicalName, type TensorKey, tensorNames } from "./peft_tensors.ts";
import { checkFree } from "./settings.ts";

/** Name of the configuration in a folder. */
export const CONFIG = "adapter_config.json";
/** Name of the tensors in a folder. */
export const WEIGHTS = "adapter_model.safetensors";
/** A pickle, which can run code when it is read. */
const PICKLE = "adapter_model.bin";

/** How `loadPeft` loads. */
export interface LoadPeftOptions extends LoadAdapterOptions {
  /** Whether the weights may be others than those that the adapter was saved for. */
  readonly anyBase?: boolean;
}

/**
 * The model with the adapter of a PEFT folder, with the ranks, scales and dropout that its configuration gives: low-rank
 * factors of linear layers, GPT-2's Conv1D and embeddings, DoRA's magnitudes, trained biases, and modules that are
 * trained whole. With a name it stands beside adapters of other names. The base is shared with `params`.
 *
 * Throws `FormatError` where a file is missing or malformed, where the configuration asks for what is not supported, or
 * names what is not there, where the tensors are not exactly those that it asks for, which it lists, or where `savePeft`
 * wrote it for other weights; `TreeError` where a layer can have no adapter, or has one already.
 *
 * @example
 * ```ts
 * import { assertEquals, assertRejects } from "@std/assert";
 * import { FormatError, ones, random, zeros } from "cotan";
 * import { adapterNames, loadPeft, lora, savePeft } from "cotan/lora";
 *
 * const params = { q_proj: { weight: zeros([6, 4]) } };
 * const key = random.key(0);
 * const folder = await Deno.makeTempDir();
 * await savePeft(folder, lora(params, { targets: "q_proj", rank: 2, alpha: 4, key }));
 * const one = await loadPeft(folder, params, { name: "tales" });
 * const two = await loadPeft(folder, one, { name: "poems" });
 * assertEquals(adapterNames(two), ["tales", "poems"]);
 *
 * const other = { q_proj: { weight: ones([6, 4]) } };
 * await assertRejects(() => loadPeft(folder, other), FormatError);
 * await loadPeft(folder, other, { anyBase: true });
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function loadPeft<T extends Tree>(
  folder: Path,
  params: T,
  options: LoadPeftOptions = {},
): Promise<T> {
  const { name, anyBase = false } = options;
  checkName(name);
  const what = `an adapter from ${show(folder)}`;
  const path = join(folder, WEIGHTS);
  const config = await loadConfig(folder, what);
  await refusePickle(folder, what);
  const infos = await inspectSafetensors(path);
  const { pieces, copies } = piecesOf(config, params, infos, what);
  for (const { layer } of pieces) checkFree(layer, name);
  const shapes = [...copies].map(([name, x]) => [name, shapeOf(x)] as const);
  const { tensors, metadata } = await readExactly(
    path,
    infos,
    new Map([...expectedOf(pieces), ...shapes]),
    canonicalName,
  );
  try {
    await checkCopies(copies, tensors, what);
    const base = metadata[FINGERPRINT];
    if (base !== undefined && !anyBase) {
      await checkBase(base, pieces, config, what);
    }
  } catch (error) {
    disposeAll(tensors);
    throw error;
  }
  const byPath = new Map(pieces.map((piece) => [piece.layer.path, piece]));
  return mapLayers(params, ({ path, node }) => {
    const piece = byPath.get(path);
    if (!piece) return node;
    return withAdapter(node, adapterOf(piece, config, tensors), name);
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

async function refusePickle(folder: Path, what: string): Promise<void> {
  if (await exists(join(folder, WEIGHTS))) return;
  if (!await exists(join(folder, PICKLE))) return;
  throw new FormatError(
    `Cannot load ${what}: ${PICKLE} is a pickle, which can run code; convert it in Python by loading it with PEFT ` +
      `and model.save_pretrained(folder, safe_serialization=True)`,
  );
}

function adapterOf(
  { module, kind, wanted: { rank, saves } }: Piece,
  config: PeftConfig,
  tensors: Readonly<Record<string, Tensor>>,
): Adapter {
  const names = tensorNames(module, kind);
  const leaf = (key: TensorKey) => {
    const tensor = tensors[names[key]];
    return tensor ? { [key]: tensor } : {};
  };
  const copies = Object.assign({}, ...saves.map(leaf));
  if (rank === null) return copies;
  const { dropout } = config;
  return {
    a: tensors[names.a]!,
    b: tensors[names.b]!,
    scale: tensor(scaleAt(config, module)),
    ...leaf("magnitude"),
    ...(dropout > 0 && kind !== "embedding" && { rate: tensor(dropout) }),
    ...copies,
  };
}

async function checkBase(
  expected: string,
  pieces: readonly Piece[],
  { baseModel }: PeftConfig,
  what: string,
): Promise<void> {
  const found = await fingerprintOf(pieces.map(({ layer, module }) => ({
    name: module,
    weight: layer.weight,
  })));
  if (found === expected) return;
  throw new FormatError(
    `Cannot load ${what}: it was made for ${
      baseModel ?? "a model without a name"
    }, whose weights have the fingerprint ${expected}, and these have ${found}; load that model, or pass anyBase: true`,
  );
}
