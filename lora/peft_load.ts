/**
 * Loading of adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.
 *
 * @module
 */

import {
  FormatError,
  type Shape,
  Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import type { Adapter } from "../nn/adapter_forms.ts";
import {
  exists,
  join,
  type Path,
  readJson,
  show,
} from "../nn/checkpoint/files.ts";
import { inspectSafetensors } from "../nn/checkpoint/safetensors.ts";
import {
  disposeAll,
  type Infos,
  type LoadAdapterOptions,
  moduleNames,
  readExactly,
} from "./adapter_file.ts";
import { FINGERPRINT, fingerprintOf } from "./fingerprint.ts";
import {
  isTied,
  kindOf,
  type Layer,
  type LayerKind,
  layersOf,
  mapLayers,
  whyNotAdaptable,
} from "./layers.ts";
import { withAdapter } from "./loras.ts";
import { checkName } from "./options.ts";
import { checkCopies, copiesIn } from "./peft_copies.ts";
import { type PeftConfig, readPeftConfig, TASK_HEADS } from "./peft_config.ts";
import {
  endsIn,
  idleEntries,
  isSaved,
  isTarget,
  rankAt,
  scaleAt,
} from "./peft_match.ts";
import {
  canonicalName,
  modulesIn,
  type TensorKey,
  tensorNames,
  type Wanted,
  wantedShapes,
} from "./peft_tensors.ts";
import { checkFree } from "./settings.ts";
import { linearPaths } from "./targets.ts";

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

/** A layer for which the file has tensors. */
interface Piece {
  readonly layer: Layer;
  /** Its path in the file's model. */
  readonly module: string;
  readonly kind: LayerKind;
  readonly wanted: Wanted;
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
  const shapes = [...copies].map(([name, x]) => [name, x.shape] as const);
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

/** What each layer is to have, of those that are to have something, and the copies of the base's weights. */
function piecesOf(
  config: PeftConfig,
  params: Tree,
  infos: Infos,
  what: string,
): { pieces: Piece[]; copies: ReadonlyMap<string, Tensor> } {
  const layers = layersOf(params);
  const found = new Set(Object.keys(infos).map(canonicalName));
  const modules = modulesIn([...found]);
  const moduleOf = moduleNames(layers.map(({ path }) => path), modules);
  // Heads of the task that are not written down are there where the file has them.
  const heads = config.heads.filter((name) =>
    modules.values().some((module) => isSaved({ saves: [name] }, module))
  );
  const whole = { ...config, saves: [...config.saves, ...heads] };
  const linear = linearPaths(layers).map(moduleOf);
  const pieces = layers.flatMap((layer): Piece[] => {
    const module = moduleOf(layer.path);
    const saved = isSaved(whole, module);
    const target = isTarget(whole, module, linear);
    const hasBias = layer.node.bias instanceof Tensor &&
      (config.bias === "all" || config.bias === "lora_only" && target);
    if (!saved && !target && !hasBias) return [];
    const wanted: Wanted = {
      rank: target ? rankAt(config, module) : null,
      dora: config.dora,
      saves: saved ? ["weight", "bias"] : hasBias ? ["bias"] : [],
    };
    const isTable = found.has(tensorNames(module, "embedding").a);
    return [{
      layer,
      module,
      kind: isTable ? "embedding" : kindOf(layer),
      wanted,
    }];
  });
  checkEntries(whole, layers, pieces, moduleOf, what);
  const expected = expectedOf(pieces);
  const isTaken = (name: string) => expected.has(name);
  return { pieces, copies: copiesIn(found, layers, moduleOf, isTaken) };
}

/** Throws where the targets take nothing, an entry of the configuration idles, or a target can have no adapter. */
function checkEntries(
  config: PeftConfig,
  layers: readonly Layer[],
  pieces: readonly Piece[],
  moduleOf: (path: string) => string,
  what: string,
): void {
  const modules = layers.map(({ path }) => moduleOf(path));
  const targets = pieces.filter(({ wanted }) => wanted.rank !== null);
  const paths = targets.map(({ module }) => module);
  if (targets.length === 0) {
    throw new FormatError(
      `Cannot load ${what}: target_modules ${
        JSON.stringify(config.targets)
      } take none of the model's ${layers.length} layers, such as ${
        modules.slice(0, 8).join(", ")
      }`,
    );
  }
  const [idle] = idleEntries(config, modules, paths, TASK_HEADS);
  if (idle) {
    const { key, entry } = idle;
    const some = key.endsWith("pattern") ? paths : modules;
    const tied = endsIn(entry, "lm_head") &&
        layers.some((layer) => isTied(layer, layers))
      ? "; the output head is the embedding's table, and no layer of its own"
      : "";
    throw new FormatError(
      `Cannot load ${what}: ${key} has ${
        JSON.stringify(entry)
      }, which fits none of ${some.length} ${
        some === paths ? "targets" : "layers"
      }, such as ${some.slice(0, 8).join(", ")}${tied}`,
    );
  }
  for (const { layer } of targets) {
    const why = whyNotAdaptable(layer);
    if (why) throw new TreeError(`Cannot adapt ${layer.path}: ${why}`);
  }
}

/** Sizes of all tensors by name. */
function expectedOf(pieces: readonly Piece[]): Map<string, Shape> {
  return new Map(pieces.flatMap(({ layer, module, kind, wanted }) => {
    const names = tensorNames(module, kind);
    return Object.entries(wantedShapes(layer, kind, wanted))
      .map(([key, shape]) => [names[key as TensorKey], shape] as const);
  }));
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
