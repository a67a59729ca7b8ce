/**
 * What a PEFT folder is to hold for each layer of a model, by its configuration.
 *
 * @module
 */

import {
  FormatError,
  type Shape,
  Tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import type { Weight } from "../nn/quantized.ts";
import { type Infos, moduleNames } from "./adapter_file.ts";
import {
  isTied,
  kindOf,
  type Layer,
  type LayerKind,
  layersOf,
  whyNotAdaptable,
} from "./layers.ts";
import { type PeftConfig, TASK_HEADS } from "./peft_config.ts";
import { copiesIn } from "./peft_copies.ts";
import {
  endsIn,
  idleEntries,
  isSaved,
  isTarget,
  rankAt,
} from "./peft_match.ts";
import {
  canonicalName,
  modulesIn,
  type TensorKey,
  tensorNames,
  type Wanted,
  wantedShapes,
} from "./peft_tensors.ts";
import { linearPaths } from "./targets.ts";

/** A layer for which the file has tensors. */
export interface Piece {
  /** The layer. */
  readonly layer: Layer;
  /** Its path in the file's model. */
  readonly module: string;
  /** What it is. */
  readonly kind: LayerKind;
  /** What it is to have. */
  readonly wanted: Wanted;
}

/** What each layer is to have, of those that are to have something, and the copies of the base's weights. */
export function piecesOf(
  config: PeftConfig,
  params: Tree,
  infos: Infos,
  what: string,
): { pieces: Piece[]; copies: ReadonlyMap<string, Weight> } {
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
export function expectedOf(pieces: readonly Piece[]): Map<string, Shape> {
  return new Map(pieces.flatMap(({ layer, module, kind, wanted }) => {
    const names = tensorNames(module, kind);
    return Object.entries(wantedShapes(layer, kind, wanted))
      .map(([key, shape]) => [names[key as TensorKey], shape] as const);
  }));
}
