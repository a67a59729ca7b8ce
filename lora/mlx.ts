/**
 * Loading of mlx-lm's adapters: adapter_config.json and adapters.safetensors.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * @module
 */

import {
  FormatError,
  scope,
  type Shape,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import { join, type Path, readJson, show } from "../nn/checkpoint/files.ts";
import { isRecord } from "../nn/checkpoint/json.ts";
import { inspectSafetensors } from "../nn/checkpoint/safetensors.ts";
import {
  disposeAll,
  type LoadAdapterOptions,
  moduleNames,
  readExactly,
} from "./adapter_file.ts";
import { list, number, rankOf, share, wrong } from "./config_values.ts";
import {
  kindOf,
  type Layer,
  layersOf,
  mapLayers,
  sizesOf,
  whyNotAdaptable,
} from "./layers.ts";
import { withAdapter } from "./loras.ts";
import { checkName } from "./options.ts";
import { checkFree } from "./settings.ts";

const CONFIG = "adapter_config.json";
const WEIGHTS = "adapters.safetensors";

/** What mlx-lm calls a model below its head. */
const BACKBONE = "model.";

/** What adapter_config.json says. */
interface MlxConfig {
  readonly rank: number;
  /** How much the change counts, whatever the rank. */
  readonly scale: number;
  readonly dropout: number;
  readonly dora: boolean;
  /** Paths within a block, or whole ones, of the layers with adapters; null where it does not say. */
  readonly keys: readonly string[] | null;
  /** How many of the last blocks have adapters; all from 0 down. */
  readonly blocks: number;
}

/**
 * The model with an adapter that mlx-lm has trained, of LoRA or DoRA. Its `scale` counts as it stands, whatever the rank.
 *
 * The file's `lora_a` [in, R] and `lora_b` [R, out] become `a` and `b`, transposed. Throws `FormatError` where a file is
 * missing or malformed, or the tensors are not exactly those that the configuration asks for, which it lists; `TreeError`
 * where a layer can have no adapter, or has one already.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, tree, zeros } from "cotan";
 * import { loadMlx } from "cotan/lora";
 * import { saveSafetensors } from "cotan/nn";
 *
 * const folder = await Deno.makeTempDir();
 * const config = { fine_tune_type: "lora", lora_parameters: { rank: 2, scale: 20, dropout: 0 } };
 * await Deno.writeTextFile(`${folder}/adapter_config.json`, JSON.stringify(config));
 * await saveSafetensors(`${folder}/adapters.safetensors`, {
 *   "model.layers.0.q_proj.lora_a": ones([4, 2]),
 *   "model.layers.0.q_proj.lora_b": ones([2, 6]),
 * });
 * const params = { model: { layers: [{ q_proj: { weight: zeros([6, 4]) } }] } };
 * const tuned = await loadMlx(folder, params);
 * assertEquals(tree.leaves(tuned).map(({ path, leaf }) => `${path} ${leaf}`).slice(1), [
 *   "model.layers.0.q_proj.lora.a f32[2, 4]",
 *   "model.layers.0.q_proj.lora.b f32[6, 2]",
 *   "model.layers.0.q_proj.lora.scale f32[]",
 * ]);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function loadMlx<T extends Tree>(
  folder: Path,
  params: T,
  { name }: LoadAdapterOptions = {},
): Promise<T> {
  checkName(name);
  const configPath = join(folder, CONFIG), path = join(folder, WEIGHTS);
  const config = readConfig(await readJson(configPath), show(configPath));
  const infos = await inspectSafetensors(path);
  const targets = targetsOf(config, params, Object.keys(infos), show(folder));
  for (const { layer } of targets.values()) {
    const why = whyNotAdaptable(layer) ??
      (config.dora && kindOf(layer) === "embedding"
        ? "mlx-lm's DoRA measures tables of embeddings another way"
        : null);
    if (why) throw new TreeError(`Cannot adapt ${layer.path}: ${why}`);
    checkFree(layer, name);
  }
  const expected = [...targets.values()].flatMap((target) =>
    shapesOf(target, config)
  );
  const { tensors } = await readExactly(path, infos, new Map(expected));
  try {
    return scope(() =>
      mapLayers(params, ({ path, node }) => {
        const target = targets.get(path);
        if (!target) return node;
        return withAdapter(node, adapterOf(target, config, tensors), name);
      })
    );
  } finally {
    const factors = Object.entries(tensors)
      .filter(([name]) => !name.endsWith(".m"));
    disposeAll(Object.fromEntries(factors));
  }
}

function readConfig(json: Record<string, unknown>, file: string): MlxConfig {
  const { fine_tune_type: type = "lora", lora_parameters, num_layers } = json;
  if (type !== "lora" && type !== "dora") {
    wrong(file, "fine_tune_type", type, 'there are "lora" and "dora"');
  }
  if (!isRecord(lora_parameters)) {
    wrong(file, "lora_parameters", lora_parameters, "it must be an object");
  }
  const { rank, scale, dropout, keys } = lora_parameters;
  const at = (key: string) => `lora_parameters.${key}`;
  return {
    rank: rankOf(rank, at("rank"), file),
    scale: number(scale, at("scale"), file),
    dropout: share(dropout ?? 0, at("dropout"), file),
    dora: type === "dora",
    keys: keys === undefined || keys === null
      ? null
      : list(keys, at("keys"), file),
    blocks: number(num_layers ?? -1, "num_layers", file),
  };
}

/** A layer with an adapter, and its path in mlx-lm's model. */
interface Target {
  readonly layer: Layer;
  readonly module: string;
}

/** The layers with adapters by path: those that the configuration says, or else those of which the file has tensors. */
function targetsOf(
  config: MlxConfig,
  params: Tree,
  names: readonly string[],
  folder: string,
): ReadonlyMap<string, Target> {
  const layers = layersOf(params);
  const found = new Set(names.map((name) => name.replace(/\.[^.]+$/, "")));
  const paths = layers.map(({ path }) => path);
  const moduleOf = moduleNames(paths, found, BACKBONE);
  const all = layers.map((layer) => ({ layer, module: moduleOf(layer.path) }));
  const { keys, blocks } = config;
  const count = 1 +
    Math.max(-1, ...all.map(({ module }) => placeOf(module).block));
  const first = blocks > 0 ? count - blocks : 0;
  const isTarget = ({ module }: Target): boolean => {
    if (keys === null) return found.has(module);
    const { block, key } = placeOf(module);
    return keys.includes(module) || keys.includes(key) && block >= first;
  };
  const idle = keys?.find((key) =>
    !all.some(({ module }) => module === key || placeOf(module).key === key)
  );
  const targets = all.filter(isTarget);
  if (idle !== undefined || targets.length === 0) {
    throw new FormatError(
      `Cannot load an adapter from ${folder}: ${
        idle === undefined ? "it" : `the key ${JSON.stringify(idle)}`
      } fits none of the model's ${layers.length} layers, such as ${
        all.slice(0, 8).map(({ module }) => module).join(", ")
      }`,
    );
  }
  return new Map(targets.map((target) => [target.layer.path, target]));
}

/** The block that a module is in, -1 for none, and its path within that. */
function placeOf(module: string): { block: number; key: string } {
  const [, block = -1, key = module] =
    /^(?:[^.]+\.)+?(\d+)\.(.+)$/.exec(module) ?? [];
  return { block: Number(block), key };
}

function shapesOf(
  { layer, module }: Target,
  { rank, dora }: MlxConfig,
): [string, Shape][] {
  const { into, out } = sizesOf(layer, kindOf(layer));
  return [
    [`${module}.lora_a`, [into, rank]],
    [`${module}.lora_b`, [rank, out]],
    ...(dora ? [[`${module}.m`, [out]] as [string, Shape]] : []),
  ];
}

function adapterOf(
  { layer, module }: Target,
  { scale, dora, dropout }: MlxConfig,
  tensors: Readonly<Record<string, Tensor>>,
): Lora {
  const drops = dropout > 0 && kindOf(layer) !== "embedding";
  return {
    a: tensors[`${module}.lora_a`]!.transpose(),
    b: tensors[`${module}.lora_b`]!.transpose(),
    scale: tensor(scale),
    ...(dora && { magnitude: tensors[`${module}.m`]! }),
    ...(drops && { rate: tensor(dropout) }),
  };
}
