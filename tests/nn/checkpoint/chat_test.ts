import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { FormatError } from "../../../core/mod.ts";
import {
  createTokenizer,
  loadTokenizer,
  type Tokenizer,
} from "../../../nn/checkpoint/mod.ts";
import { inFolder } from "./support.ts";

const words = {
  added_tokens: [
    { id: 3, content: "<|im_start|>", special: true },
    { id: 4, content: "<|im_end|>", special: true },
  ],
  normalizer: null,
  pre_tokenizer: { type: "Whitespace" },
  post_processor: null,
  decoder: null,
  model: {
    type: "WordPiece",
    unk_token: "?",
    vocab: { "?": 0, user: 1, hello: 2, "<|im_start|>": 3, "<|im_end|>": 4 },
  },
};

/** A tokenizer with a template. */
function withTemplate(template: unknown, tokens = {}): Promise<Tokenizer> {
  return createTokenizer(words, { ...tokens, chat_template: template });
}

const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "  hello " },
  { role: "assistant", content: "Hi" },
  { role: "user", content: "bye" },
];

const chatMl = `{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}`;

const llama3 =
  `{% set loop_messages = messages %}{% for message in loop_messages %}` +
  `{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}` +
  `{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}` +
  `{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}`;

const zephyr = `{% for message in messages %}
{% if message['role'] not in ['user', 'system', 'assistant'] %}
{{ raise_exception('Only user, system and assistant roles are supported!') }}
{% endif %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}`;

Deno.test("a template in the style of ChatML gives its turns, and the beginning of the answer where asked for", async () => {
  const tokenizer = await withTemplate(chatMl);
  const turns = "<|im_start|>system\nBe brief.<|im_end|>\n" +
    "<|im_start|>user\n  hello <|im_end|>\n" +
    "<|im_start|>assistant\nHi<|im_end|>\n" +
    "<|im_start|>user\nbye<|im_end|>\n";
  assertEquals(await tokenizer.applyChatTemplate(messages), turns);
  const template = await tokenizer.chatTemplate();
  assertEquals(template(messages), turns);
  assertEquals(
    await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }),
    `${turns}<|im_start|>assistant\n`,
  );
  const chat = [{ role: "user", content: "hello" }];
  assertEquals(await tokenizer.encodeChat(chat), [3, 1, 2, 4]);
});

Deno.test("a template in the style of Llama 3 begins with the token of beginnings and trims what is said", async () => {
  const tokenizer = await withTemplate(llama3, {
    bos_token: { content: "<|begin_of_text|>" },
  });
  assertEquals(
    await tokenizer.applyChatTemplate(messages.slice(0, 2), {
      addGenerationPrompt: true,
    }),
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" +
      "<|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>" +
      "<|start_header_id|>assistant<|end_header_id|>\n\n",
  );
});

Deno.test("a template in the style of Zephyr ends turns with the token of ends, and refuses other roles in its own words", async () => {
  const tokenizer = await withTemplate(zephyr, { eos_token: "</s>" });
  assertEquals(
    await tokenizer.applyChatTemplate(messages.slice(0, 2), {
      addGenerationPrompt: true,
    }),
    "<|system|>\nBe brief.</s>\n<|user|>\n  hello </s>\n<|assistant|>\n",
  );
  const error = await assertRejects(
    () => tokenizer.applyChatTemplate([{ role: "judge", content: "" }]),
    FormatError,
  );
  assertEquals(
    error.message,
    "Cannot apply the chat template: Only user, system and assistant roles are supported!",
  );
});

Deno.test("tools, documents and other variables reach the template", async () => {
  const tokenizer = await withTemplate(
    "{{ tools is none }} {{ documents is none }} {{ mood is defined }}" +
      "{% if tools %} {{ tools[0].name }}{% endif %}{% if mood %} {{ mood }}{% endif %}",
  );
  assertEquals(await tokenizer.applyChatTemplate([]), "true true false");
  assertEquals(
    await tokenizer.applyChatTemplate([], {
      tools: [{ name: "clock" }],
      documents: [],
      mood: "calm",
    }),
    "false false true clock calm",
  );
});

Deno.test("one of several templates is chosen by name, by the tools, or as the default", async () => {
  const tokenizer = await withTemplate([
    { name: "default", template: "plain" },
    { name: "tool_use", template: "tools" },
    { name: "rag", template: "search" },
  ]);
  const apply = (options = {}): Promise<string> =>
    tokenizer.applyChatTemplate([], options);
  assertEquals(await apply(), "plain");
  assertEquals(await apply({ tools: [] }), "tools");
  assertEquals(await apply({ template: "rag" }), "search");
  assertEquals(await apply({ template: "{{ 1 + 1 }}" }), "2");
  const refusal = async (
    tokenizer: Tokenizer,
    options = {},
  ): Promise<string> =>
    (await assertRejects(
      () => tokenizer.applyChatTemplate([], options),
      FormatError,
    )).message;
  assertEquals(
    await refusal(tokenizer, { template: "rags" }),
    'Cannot apply the chat template "rags": the tokenizer has "default", "tool_use", "rag", and it is no text of a template',
  );
  assertEquals(
    await refusal(await withTemplate([{ name: "rag", template: "" }])),
    'Cannot choose a chat template: the tokenizer has "rag", and none is the default; give the name of one as template',
  );
  assertEquals(
    await refusal(await withTemplate(undefined)),
    "Cannot apply a chat template: the tokenizer has none; give its text as template",
  );
  assertMatch(
    await refusal(await withTemplate("{% if %}")),
    /^Cannot apply the chat template: ./,
  );
});

Deno.test("a file of its own with the template comes before the config's", async () => {
  await inFolder(async (folder) => {
    const write = (name: string, text: string): Promise<void> =>
      Deno.writeTextFile(`${folder}/${name}`, text);
    await write("tokenizer.json", JSON.stringify(words));
    await write("tokenizer_config.json", '{"chat_template": "config"}');
    const apply = async (): Promise<string> =>
      (await loadTokenizer(folder)).applyChatTemplate([]);
    assertEquals(await apply(), "config");
    await write("chat_template.jinja", "file");
    assertEquals(await apply(), "file");
  });
});
