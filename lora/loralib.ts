/**
 * Loading of loralib's adapters: the tensors that `lora_state_dict` gives, in a safetensors file.
 *
 * Letters: R rank, N slices with adapters; `in` and `out` are the features of a layer, or of one slice.
 *
 * @module
 */

import {
  FormatError,
  scope,
  type Shape,
  Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import type { Adapter, Lora, Saved } from "../nn/adapter_forms.ts";
import { type Path, show } from "../nn/checkpoint/files.ts";
import { inspectSafetensors } from "../nn/checkpoint/safetensors.ts";
import {
  disposeAll,
  type LoadAdapterOptions,
  moduleNames,
  readExactly,
} from "./adapter_file.ts";
import {
  kindOf,
  type Layer,
  layersOf,
  mapLayers,
  sizesOf,
  whyNotAdaptable,
} from "./layers.ts";
import { withAdapter } from "./loras.ts";
import { checkName, type LoraOptions } from "./options.ts";
import { checkFree, partsByTarget } from "./settings.ts";

/** What loralib's files do not say. */
export interface LoadLoralibOptions
  extends LoadAdapterOptions, Pick<LoraOptions, "rank" | "alpha" | "parts"> {}

/** Endings of names of files that torch.save wrote. */
const PICKLE = /\.(?:bin|pt|pth|ckpt|pkl)$/;

/** A layer for which the file has tensors. */
interface Piece {
  readonly layer: Layer;
  /** Its path in the file's model. */
  readonly module: string;
  /** Which slices have adapters; null where the file has no factors. */
  readonly parts: readonly boolean[] | null;
  /** Which of its own tensors the file has. */
  readonly saves: readonly ("weight" | "bias")[];
}

/**
 * The model with an adapter of loralib, whose file has `<module>.lora_A` [R, in] and `<module>.lora_B` [out, R], and maybe
 * trained biases and whole layers. `parts` says which slices of a MergedLinear have adapters: its `lora_A` is
 * [N · R, in] and its `lora_B` [N · out, R]. The file does not say rank and alpha.
 *
 * Throws `FormatError` where the file is missing, malformed or a pickle, or the tensors do not fit the model exactly, which
 * it lists; `TreeError` where a layer can have no adapter, or has one already.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, tree, zeros } from "cotan";
 * import { loadLoralib } from "cotan/lora";
 * import { saveSafetensors } from "cotan/nn";
 *
 * const file = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await saveSafetensors(file, { "qkv.lora_A": ones([4, 3]), "qkv.lora_B": ones([10, 2]) });
 * const tuned = await loadLoralib(file, { qkv: { weight: zeros([15, 3]) } }, {
 *   rank: 2,
 *   alpha: 4,
 *   parts: { qkv: [true, false, true] },
 * });
 * assertEquals(tree.leaves(tuned).map(({ path, leaf }) => `${path} ${leaf}`).slice(1, 3), [
 *   "qkv.lora.0.a f32[2, 3]",
 *   "qkv.lora.0.b f32[5, 2]",
 * ]);
 * await Deno.remove(file);
 * ```
 */
export async function loadLoralib<T extends Tree>(
  file: Path,
  params: T,
  options: LoadLoralibOptions,
): Promise<T> {
  const { name, rank, alpha } = options;
  checkName(name);
  checkNumbers(options);
  if (PICKLE.test(show(file))) {
    throw new FormatError(
      `Cannot read ${
        show(file)
      }: it is a pickle, which can run code; convert it in Python by ` +
        `safetensors.torch.save_file(torch.load(file, weights_only=True), "adapter.safetensors")`,
    );
  }
  const infos = await inspectSafetensors(file);
  const names = new Set(Object.keys(infos));
  const pieces = piecesOf(names, params, options);
  if (![...pieces.values()].some(({ parts }) => parts)) {
    const paths = layersOf(params).map(({ path }) => path);
    throw new FormatError(
      `Cannot load ${
        show(file)
      }: it has factors for none of the model's ${paths.length} layers, such as ${
        paths.slice(0, 8).join(", ")
      }`,
    );
  }
  for (const { layer, parts } of pieces.values()) {
    const why = parts && whyNotAdaptable(layer);
    if (why) throw new TreeError(`Cannot adapt ${layer.path}: ${why}`);
    checkFree(layer, name);
  }
  const expected = new Map(
    [...pieces.values()].flatMap((piece) => shapesOf(piece, rank)),
  );
  const { tensors } = await readExactly(file, infos, expected);
  const used = new Set<Tensor>();
  const tuned = scope(() =>
    mapLayers(params, ({ path, node }) => {
      const piece = pieces.get(path);
      if (!piece) return node;
      const adapter = adapterOf(piece, rank, alpha / rank, tensors, used);
      return withAdapter(node, adapter, name);
    })
  );
  disposeAll(
    Object.fromEntries(
      Object.entries(tensors).filter(([, tensor]) => !used.has(tensor)),
    ),
  );
  return tuned;
}

function checkNumbers({ rank, alpha }: LoadLoralibOptions): void {
  if (Number.isSafeInteger(rank) && rank > 0 && Number.isFinite(alpha)) return;
  throw new RangeError(
    `Cannot load an adapter of rank ${rank} and alpha ${alpha}: the rank must be a positive integer, and alpha a number`,
  );
}

/** The layers that the file has tensors for, by path. */
function piecesOf(
  names: ReadonlySet<string>,
  params: Tree,
  { parts: slices = {} }: LoadLoralibOptions,
): ReadonlyMap<string, Piece> {
  const layers = layersOf(params);
  const paths = layers.map(({ path }) => path);
  const modules = new Set(
    [...names].map((name) => name.replace(/\.[^.]+$/, "")),
  );
  const moduleOf = moduleNames(paths, modules);
  const isTarget = ({ path }: Layer) =>
    ["lora_A", "lora_B"].some((x) => names.has(`${moduleOf(path)}.${x}`));
  const targets = layers.filter(isTarget);
  const partsAt = partsByTarget(slices, targets);
  return new Map(layers.flatMap((layer): [string, Piece][] => {
    const module = moduleOf(layer.path);
    const saves = (["weight", "bias"] as const).filter((key) =>
      names.has(`${module}.${key}`) && layer.node[key] instanceof Tensor
    );
    const parts = isTarget(layer) ? partsAt(layer) ?? [true] : null;
    if (!parts && saves.length === 0) return [];
    return [[layer.path, { layer, module, parts, saves }]];
  }));
}

function shapesOf(
  { layer, module, parts, saves }: Piece,
  rank: number,
): [string, Shape][] {
  const own = saves.map((key): [string, Shape] => [
    `${module}.${key}`,
    (layer.node[key] as Tensor).shape,
  ]);
  if (!parts) return own;
  const { into, out } = sizesOf(layer, kindOf(layer));
  const count = parts.filter((isAdapted) => isAdapted).length;
  return [
    [`${module}.lora_A`, [count * rank, into]],
    [`${module}.lora_B`, [count * out / parts.length, rank]],
    ...own,
  ];
}

/** The adapter of a layer; what it takes whole from the file joins `used`. */
function adapterOf(
  { module, parts, saves }: Piece,
  rank: number,
  scale: number,
  tensors: Readonly<Record<string, Tensor>>,
  used: Set<Tensor>,
): Adapter {
  const take = (key: string): Tensor => {
    const whole = tensors[`${module}.${key}`]!;
    used.add(whole);
    return whole;
  };
  const copies: Saved = Object.fromEntries(
    saves.map((key) => [key, take(key)]),
  );
  if (!parts) return copies;
  if (parts.length === 1) {
    return {
      a: take("lora_A"),
      b: take("lora_B"),
      scale: tensor(scale),
      ...copies,
    };
  }
  const below = tensors[`${module}.lora_A`]!,
    above = tensors[`${module}.lora_B`]!;
  const count = below.shape[0]! / rank, size = above.shape[0]! / count;
  let i = 0;
  const slices = parts.map((isAdapted): Lora | null => {
    if (!isAdapted) return null;
    const at = i++;
    return {
      a: below.slice([[at * rank, (at + 1) * rank]]),
      b: above.slice([[at * size, (at + 1) * size]]),
      scale: tensor(scale),
    };
  });
  return saves.length > 0 ? { slices, ...copies } : slices;
}
