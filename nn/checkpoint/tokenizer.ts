/**
 * Tokenizers in Hugging Face's format, run by their own library `@huggingface/tokenizers`.
 *
 * @module
 */

import type { Tokenizer as Library } from "@huggingface/tokenizers";
import { FormatError } from "../../core/mod.ts";
import { exists, join, type Path, readJson, show } from "./files.ts";
import {
  type ChatMessage,
  type ChatOptions,
  type ChatTemplate,
  loadChatTemplate,
} from "./chat.ts";
import { isRecord } from "./json.ts";

/** Text to ids and back. */
export interface Tokenizer {
  /** Ids of a text, with the tokens that the model wants around it unless `addSpecial` is false. */
  encode(text: string, options?: { readonly addSpecial?: boolean }): number[];
  /** Text of ids, without special tokens unless `skipSpecial` is false. */
  decode(
    ids: Iterable<number>,
    options?: { readonly skipSpecial?: boolean },
  ): string;
  /** The text of a chat, by the template that comes with the tokenizer. Throws `FormatError` where there is none. */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: ChatOptions,
  ): Promise<string>;
  /** That template as a function, for many chats. */
  chatTemplate(): Promise<ChatTemplate>;
  /** The ids of that text. The template sets all special tokens, so none are added. */
  encodeChat(
    messages: readonly ChatMessage[],
    options?: ChatOptions,
  ): Promise<number[]>;
  /** The id of a token, or null. */
  tokenToId(token: string): number | null;
  /** The token of an id, or null. */
  idToToken(id: number): string | null;
  /** Number of tokens, special ones included. */
  readonly vocabSize: number;
  /** The largest id; ids need not be without gaps. */
  readonly maxId: number;
  /** Beginning of a text, or null. */
  readonly bosId: number | null;
  /** End of a text, or null. */
  readonly eosId: number | null;
  /** Padding, or null. */
  readonly padId: number | null;
  /** What stands for the unknown, or null. */
  readonly unkId: number | null;
}

/** The files of a tokenizer; all but the first are optional. */
export const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/**
 * Loads a tokenizer from a folder with `tokenizer.json` and, for the special tokens and the chat template,
 * `tokenizer_config.json`.
 *
 * Throws `FormatError` where the files are missing or malformed.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { FormatError } from "cotan";
 * import { loadTokenizer } from "cotan/nn";
 *
 * await assertRejects(() => loadTokenizer("no/such/folder"), FormatError);
 * ```
 */
export async function loadTokenizer(folder: Path): Promise<Tokenizer> {
  const [path, configPath, templatePath] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
  ].map((name) => join(folder, name)) as [Path, Path, Path];
  const json = await readJson(path);
  const config = await exists(configPath) ? await readJson(configPath) : {};
  // Newer versions of transformers write the template to a file of its own.
  if (await exists(templatePath)) {
    config.chat_template = await Deno.readTextFile(templatePath);
  }
  return createTokenizer(json, config, show(path));
}

/**
 * A tokenizer from the contents of `tokenizer.json` and `tokenizer_config.json`; `name` stands for them in errors.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createTokenizer } from "cotan/nn";
 *
 * const words = await createTokenizer({
 *   added_tokens: [],
 *   normalizer: { type: "Lowercase" },
 *   pre_tokenizer: { type: "Whitespace" },
 *   post_processor: null,
 *   decoder: null,
 *   model: { type: "WordPiece", unk_token: "?", vocab: { "?": 0, hello: 1 } },
 * });
 * assertEquals(words.encode("Hello you"), [1, 0]);
 * const template = "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}";
 * const chat = [{ role: "user", content: "hello" }];
 * assertEquals(await words.applyChatTemplate(chat, { template }), "user: hello;");
 * ```
 */
export async function createTokenizer(
  json: Record<string, unknown>,
  config: Record<string, unknown> = {},
  name = "the tokenizer",
): Promise<Tokenizer> {
  // Imported here, so that a program without texts does not load the library.
  const { Tokenizer } = await import("@huggingface/tokenizers");
  let library: Library;
  try {
    library = new Tokenizer(json, {
      // Cleaning up, the library's default, loses spaces of the text.
      clean_up_tokenization_spaces: false,
      ...config,
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FormatError(
      `Cannot read ${name}: the tokenizers library refuses it (${why})`,
      { cause },
    );
  }
  const idOf = (token: string) => library.token_to_id(token) ?? null;
  const special = (key: string) => {
    const token = textOf(config[`${key}_token`]);
    return token === null ? null : idOf(token);
  };
  const vocabulary = library.get_vocab();
  let maxId = -1;
  for (const id of vocabulary.values()) maxId = Math.max(maxId, id);
  const encode = (text: string, addSpecial: boolean): number[] =>
    library.encode(text, { add_special_tokens: addSpecial }).ids;
  const chatTemplate = (): Promise<ChatTemplate> =>
    loadChatTemplate(config, textOf);
  return {
    chatTemplate,
    applyChatTemplate: async (messages, options) =>
      (await chatTemplate())(messages, options),
    encodeChat: async (messages, options) =>
      encode((await chatTemplate())(messages, options), false),
    encode: (text, { addSpecial = true } = {}) => encode(text, addSpecial),
    decode: (ids, { skipSpecial = true } = {}) => {
      const list = Array.from(ids, (id) => checkId(library, id));
      return list.length === 0
        ? ""
        : library.decode(list, { skip_special_tokens: skipSpecial });
    },
    tokenToId: idOf,
    idToToken: (id) => library.id_to_token(id) ?? null,
    vocabSize: vocabulary.size,
    maxId,
    bosId: special("bos"),
    eosId: special("eos"),
    padId: special("pad"),
    unkId: special("unk"),
  };
}

/** The library would decode an id that it does not know as the unknown token. */
function checkId(library: Library, id: number): number {
  if (library.id_to_token(id) !== undefined) return id;
  throw new RangeError(
    `Cannot decode the id ${id}: the tokenizer has ${library.get_vocab().size} tokens, and none of this id`,
  );
}

/** A token of the config, which is a text or a record with it. */
function textOf(token: unknown): string | null {
  if (typeof token === "string") return token;
  return isRecord(token) && typeof token.content === "string"
    ? token.content
    : null;
}
