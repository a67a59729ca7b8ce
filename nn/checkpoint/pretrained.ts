/**
 * Models in folders as Hugging Face's `save_pretrained` writes them.
 *
 * @module
 */

import {
  format,
  FormatError,
  type Shape,
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../../core/mod.ts";
import { type Model, modelFromConfig, type RawConfig } from "../models/mod.ts";
import { unflatten } from "../models/parameters.ts";
import {
  exists,
  join,
  type Output,
  type Path,
  readJson,
  replaceFiles,
  show,
} from "./files.ts";
import { checkFit } from "./fit.ts";
import { writeSafetensors } from "./safetensors.ts";
import { typeOf } from "./safetensors_data.ts";
import { loadTokenizer, type Tokenizer, TOKENIZER_FILES } from "./tokenizer.ts";
import { findWeights, WEIGHTS } from "./weights.ts";

/** What `fromPretrained` loads. */
export interface PretrainedOptions {
  /** true: the folder must have a tokenizer; false: none is loaded; absent: one is loaded if it is there. */
  readonly tokenizer?: boolean;
}

/** A model with its weights. */
export interface Pretrained<T extends Tokenizer | null = Tokenizer | null> {
  /** The model. */
  readonly model: Model;
  /** Its parameters. */
  readonly params: Tree;
  /** Its tokenizer, or null. */
  readonly tokenizer: T;
  /** The content of config.json. */
  readonly config: RawConfig;
}

/** Tensors in files that are no parameters: masks and positions that older versions of transformers saved. */
const BUFFER =
  /(?:^|\.)(?:attn\.(?:masked_)?bias|rotary_emb\.inv_freq|position_ids)$/;

/**
 * Loads a model from a folder with `config.json`, `model.safetensors` (or shards and their index) and, for the
 * tokenizer, `tokenizer.json`. The class is the first of the config's `architectures`.
 *
 * Names in the file may lack the model's prefix: `layers.0…` for `model.layers.0…`. Throws `FormatError` where a file
 * is missing or malformed, or where the tensors are not exactly the model's parameters, which it lists.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 * import { fromPretrained, llama, savePretrained } from "cotan/nn";
 *
 * const config = {
 *   architectures: ["LlamaForCausalLM"],
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * };
 * const params = llama(config).init(random.key(0));
 * const folder = await Deno.makeTempDir();
 * await savePretrained(folder, { params, config });
 * const loaded = await fromPretrained(folder);
 * assertEquals(loaded.config, config);
 * assertEquals(loaded.tokenizer, null);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export function fromPretrained(
  folder: Path,
  options: PretrainedOptions & { readonly tokenizer: true },
): Promise<Pretrained<Tokenizer>>;
/** Loads a model from a folder, with its tokenizer if the folder has one. */
export function fromPretrained(
  folder: Path,
  options?: PretrainedOptions,
): Promise<Pretrained>;
export async function fromPretrained(
  folder: Path,
  options: PretrainedOptions = {},
): Promise<Pretrained> {
  await checkFolder(folder);
  const config = await readJson(join(folder, "config.json"));
  const model = modelFromConfig(config);
  const tokenizer = await findTokenizer(folder, options.tokenizer);
  const params = await loadParams(folder, model);
  return { model, params, tokenizer, config };
}

async function checkFolder(folder: Path): Promise<void> {
  const what = `Cannot load a model from ${show(folder)}`;
  const files = `config.json and ${WEIGHTS}`;
  if (!await exists(folder)) {
    throw new FormatError(
      `${what}: there is no such folder; give one with ${files}, since models of the Hugging Face Hub are not fetched yet`,
    );
  }
  if (!(await Deno.stat(folder)).isDirectory) {
    throw new FormatError(`${what}: it is no folder; give one with ${files}`);
  }
  if (!await exists(join(folder, "config.json"))) {
    throw new FormatError(`${what}: it has no config.json; expected ${files}`);
  }
}

async function findTokenizer(
  folder: Path,
  wanted: boolean | undefined,
): Promise<Tokenizer | null> {
  if (wanted === false) return null;
  const isThere = await exists(join(folder, TOKENIZER_FILES[0]!));
  return wanted || isThere ? await loadTokenizer(folder) : null;
}

async function loadParams(folder: Path, model: Model): Promise<Tree> {
  const { file, infos, load } = await findWeights(folder);
  const names = namesOf(model, Object.keys(infos), file);
  checkFit(
    file,
    typesOf(Object.entries(model.shapes)),
    new Map(
      Object.entries(infos).flatMap(([name, info]) => {
        const path = names.get(name);
        return path === null ? [] : [[path ?? name, typeOf(info)]];
      }),
    ),
  );
  const tensors = await load();
  const byPath = new Map<string, Tensor>();
  for (const [name, tensor] of Object.entries(tensors)) {
    const path = names.get(name);
    if (path) byPath.set(path, tensor);
    else tensor.dispose();
  }
  return unflatten(
    Object.keys(model.shapes).map((path) => [path, byPath.get(path)!]),
  );
}

function typesOf(
  shapes: readonly (readonly [string, Shape])[],
): Map<string, string> {
  return new Map(
    shapes.map(([path, shape]) => [path, format({ dtype: "f32", shape })]),
  );
}

/** The path of each tensor of a file, null for what is no parameter; tensors that fit nowhere have none. */
function namesOf(
  { shapes, config }: Model,
  names: readonly string[],
  file: string,
): Map<string, string | null> {
  const prefixes = ["", ...new Set(Object.keys(shapes).map(firstName))];
  const paths = new Map<string, string | null>();
  const taken = new Map<string, string>();
  for (const name of names) {
    const path = prefixes.map((prefix) => prefix + name)
      .find((path) => Object.hasOwn(shapes, path));
    if (path === undefined) {
      // A tied head is the embedding, whatever the file says, as in transformers.
      const isTied = name === "lm_head.weight" && config.tie_word_embeddings;
      if (isTied || BUFFER.test(name)) paths.set(name, null);
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

function firstName(path: string): string {
  return path.slice(0, path.indexOf(".") + 1);
}

/** What `savePretrained` saves. */
export interface SavePretrainedOptions {
  /** The parameters, without adapters. */
  readonly params: Tree;
  /** The content of config.json. */
  readonly config: RawConfig;
  /** A folder whose tokenizer is copied. */
  readonly tokenizerFiles?: Path;
}

/**
 * Saves a model as a folder that `fromPretrained` and Hugging Face's libraries load. Files are replaced only when all
 * are written.
 *
 * Throws `TreeError` where the parameters have adapters: merge them, or save them alone by `savePeft`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones } from "cotan";
 * import { loadSafetensors, savePretrained } from "cotan/nn";
 *
 * const folder = await Deno.makeTempDir();
 * const params = { norm: { weight: ones([4]) } };
 * await savePretrained(folder, { params, config: { model_type: "other" } });
 * const saved = await loadSafetensors(`${folder}/model.safetensors`);
 * assertEquals(Object.keys(saved), ["norm.weight"]);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function savePretrained(
  folder: Path,
  options: SavePretrainedOptions,
): Promise<void> {
  const { params, config, tokenizerFiles } = options;
  const adapter = trees.leaves(params).find(({ path }) =>
    /(?:^|\.)lora\./.test(path)
  );
  if (adapter) {
    throw new TreeError(
      `Cannot save a model with adapters, as at ${adapter.path}: use mergeAdapters, or savePeft for the adapters alone`,
    );
  }
  const outputs: Output[] = [
    {
      path: join(folder, WEIGHTS),
      content: (file) =>
        writeSafetensors(file, params, { metadata: { format: "pt" } }),
    },
    {
      path: join(folder, "config.json"),
      content: `${JSON.stringify(config, null, 2)}\n`,
    },
  ];
  if (tokenizerFiles !== undefined) {
    outputs.push(...await copies(tokenizerFiles, folder));
  }
  await Deno.mkdir(folder, { recursive: true });
  await replaceFiles(outputs);
}

async function copies(from: Path, to: Path): Promise<Output[]> {
  const found: Output[] = [];
  for (const name of [...TOKENIZER_FILES, "special_tokens_map.json"]) {
    const path = join(from, name);
    if (!await exists(path)) continue;
    const content = await Deno.readFile(path);
    found.push({ path: join(to, name), content });
  }
  if (found.length > 0) return found;
  throw new FormatError(
    `Cannot copy a tokenizer from ${show(from)}: it has none of ${
      TOKENIZER_FILES.join(" and ")
    }`,
  );
}
