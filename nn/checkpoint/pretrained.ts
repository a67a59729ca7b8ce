/**
 * Models in folders as Hugging Face's `save_pretrained` writes them.
 *
 * @module
 */

import { FormatError, type Tensor, type Tree } from "../../core/mod.ts";
import { type Model, modelFromConfig, type RawConfig } from "../models/mod.ts";
import { exists, join, type Path, readJson, show } from "./files.ts";
import { loadGguf } from "./gguf.ts";
import type { HubOptions } from "./hub.ts";
import { openFolder } from "./locate.ts";
import { loadParams } from "./params.ts";
import type { LoadTensorOptions } from "./safetensors.ts";
import { checkLoadDType } from "./safetensors_data.ts";
import { loadTokenizer, type Tokenizer, TOKENIZER_FILES } from "./tokenizer.ts";
import { fetchWeights, findWeights } from "./weights.ts";

/** What `fromPretrained` loads. */
export interface PretrainedOptions extends LoadTensorOptions, HubOptions {
  /** true: the folder must have a tokenizer; false: none is loaded; absent: one is loaded if it is there. */
  readonly tokenizer?: boolean;
  /** Fields that replace those of config.json, such as `architectures` for another head. */
  readonly config?: RawConfig;
  /**
   * A key, for a head that the file does not have: parameters outside the base, and of a pooler, that are missing from
   * the file or have another shape there start as `init` makes them from this key; other heads of the file are left out.
   */
  readonly newHead?: Tensor;
}

/** A model with its weights. */
export interface Pretrained<T extends Tokenizer | null = Tokenizer | null> {
  /** The model. */
  readonly model: Model;
  /** Its parameters. */
  readonly params: Tree;
  /** Its tokenizer, or null. */
  readonly tokenizer: T;
  /** The content of config.json, with the fields that were given instead. */
  readonly config: RawConfig;
  /** The folder or file that it was loaded from; for a model of the Hub, in the cache. */
  readonly folder: Path;
}

/**
 * Loads a model from a folder with `config.json`, `model.safetensors` (or shards and their index) and, for the
 * tokenizer, `tokenizer.json`. The class is the first of the config's `architectures`.
 *
 * A text that is no folder is a model of the Hugging Face Hub, `owner/name` or a name alone; it is fetched into the cache
 * that Hugging Face's own libraries use, and read from there.
 *
 * A path that ends in `.gguf` is a file of llama.cpp's, of the architectures llama and gpt2, with tensors of types F32,
 * F16, BF16 and Q8_0; its tokenizer is not read.
 *
 * Weights go from the disk to the backend in pieces of about a megabyte. Names in the file may lack the model's prefix:
 * `layers.0…` for `model.layers.0…`. Throws `FormatError` where a file is missing or malformed, where the tensors are
 * not exactly the model's parameters, which it lists, or where the tokenizer has ids that the model has not.
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
  source: Path,
  options: PretrainedOptions & { readonly tokenizer: true },
): Promise<Pretrained<Tokenizer>>;
/** Loads a model from a folder or the Hub, with its tokenizer if it has one. */
export function fromPretrained(
  source: Path,
  options?: PretrainedOptions,
): Promise<Pretrained>;
export async function fromPretrained(
  source: Path,
  options: PretrainedOptions = {},
): Promise<Pretrained> {
  const { dtype = "f32", tokenizer: wantsTokenizer } = options;
  checkLoadDType(dtype);
  if (show(source).endsWith(".gguf")) return await fromGguf(source, options);
  const found = await openFolder(source, options);
  const folder = found.path;
  const file = await readJson(join(folder, "config.json"));
  const config = { ...file, ...options.config };
  const model = modelFromConfig(config);
  if (wantsTokenizer !== false) await found.fetch(TOKENIZER_FILES);
  const tokenizer = await findTokenizer(folder, wantsTokenizer);
  if (tokenizer) checkVocabulary(tokenizer, model, folder);
  await fetchWeights(found);
  await found.done();
  const weights = await findWeights(folder, dtype);
  const params = await loadParams(weights, model, options);
  return { model, params, tokenizer, config, folder };
}

async function fromGguf(
  path: Path,
  options: PretrainedOptions,
): Promise<Pretrained<null>> {
  if (options.tokenizer) {
    throw new FormatError(
      `Cannot load a tokenizer from ${show(path)}: those of GGUF files are ` +
        `not read; load the model without, and loadTokenizer from a folder`,
    );
  }
  const { config, weights, arrange } = await loadGguf(path, options.dtype);
  const full = { ...config, ...options.config };
  const model = modelFromConfig(full);
  const params = arrange(await loadParams(weights, model, options));
  return { model, params, tokenizer: null, config: full, folder: path };
}

async function findTokenizer(
  folder: Path,
  wanted: boolean | undefined,
): Promise<Tokenizer | null> {
  if (wanted === false) return null;
  const isThere = await exists(join(folder, TOKENIZER_FILES[0]!));
  return wanted || isThere ? await loadTokenizer(folder) : null;
}

function checkVocabulary(
  { maxId }: Tokenizer,
  { config: { vocab_size } }: Model,
  folder: Path,
): void {
  if (maxId < vocab_size) return;
  throw new FormatError(
    `Cannot use ${show(join(folder, TOKENIZER_FILES[0]!))}: it has ids up to ` +
      `${maxId}, and vocab_size is ${vocab_size}; load the model with tokenizer: false`,
  );
}
