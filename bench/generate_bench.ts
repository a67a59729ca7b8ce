/**
 * Generation of 256 tokens behind one by a random Llama of stories260K's shape, the compilation of its step included:
 * 256 over the time is tokens a second.
 *
 * @module
 */

import { random } from "cotan";
import { generate, type GenerateOptions, llama } from "cotan/nn";
import { availableBackends, benchOn } from "./backends.ts";

const model = llama({
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 5,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
});

const ways: Record<string, Omit<GenerateOptions, "maxNewTokens">> = {
  greedy: {},
  "sampled with topK 40 and topP 0.9": {
    temperature: 1,
    topK: 40,
    topP: 0.9,
  },
};

for (const backend of await availableBackends()) {
  for (const [name, options] of Object.entries(ways)) {
    benchOn(backend, `generate ${name}`, `256 tokens, ${name}`, () => {
      const params = model.init(random.key(0));
      const key = random.key(1);
      return Promise.resolve(async () => {
        const all = { maxNewTokens: 256, key, ...options };
        let count = 0;
        for await (const _ of generate(model, params, [1], all)) count++;
        if (count !== 256) throw new Error(`${count} tokens came`);
      });
    });
  }
}
