import { assertEquals, assertThrows } from "@std/assert";
import { FormatError, random } from "cotan";
import { isCausal, modelFromConfig } from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const gpt2 = { vocab_size: 11, n_embd: 8, n_layer: 2, n_head: 2 };
const llama = {
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
};

Deno.test("a model_type alone stands for its language model", () => {
  const { shapes, config } = modelFromConfig({ ...gpt2, model_type: "gpt2" });
  assertEquals(shapes["transformer.h.1.attn.c_attn.weight"], [8, 24]);
  assertEquals(config.max_position_embeddings, 1024);
  const qwen = modelFromConfig({ ...llama, model_type: "qwen2" });
  assertEquals(qwen.shapes["model.layers.1.self_attn.q_proj.bias"], [8]);
  assertEquals(isCausal(qwen), true);
});

Deno.test("an architecture without a head gives the last hidden state, and has no head", async () => {
  for (
    const [config, base, full] of [
      [gpt2, "GPT2Model", "GPT2LMHeadModel"],
      [llama, "LlamaModel", "LlamaForCausalLM"],
    ] as const
  ) {
    const model = modelFromConfig({
      ...config,
      architectures: [base],
      tie_word_embeddings: false,
    });
    const whole = modelFromConfig({ ...config, architectures: [full] });
    const params = model.init(random.key(0)), tokens = ids([[1, 2, 3]]);
    assertEquals("lm_head.weight" in model.shapes, false);
    assertEquals(isCausal(model), false);
    const last = whole.hidden(params, tokens).at(-1)!;
    const actual = model.apply(params, tokens);
    await assertClose(actual, await last.data(), { shape: [1, 3, 8] });
  }
});

Deno.test("a configuration of an unknown class is an error that lists those there are", () => {
  const list =
    "there are GPT2LMHeadModel, GPT2ForSequenceClassification, GPT2Model, LlamaForCausalLM, ";
  for (
    const [config, what] of [
      [{ architectures: ["Other"] }, 'architecture "Other"'],
      [{}, "architecture undefined"],
      [{ model_type: "gemma" }, 'model_type "gemma"'],
    ] as const
  ) {
    assertThrows(
      () => modelFromConfig({ ...llama, ...config }),
      FormatError,
      `Cannot build a model of ${what}: ${list}`,
    );
  }
});
