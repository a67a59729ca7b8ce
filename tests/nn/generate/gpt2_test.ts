import { assert, assertEquals } from "@std/assert";
import { random } from "cotan";
import { beamSearch, generate, generateBatch, gpt2 } from "cotan/nn";
import { eachBackend } from "../../support/backends.ts";
import { ids } from "../support.ts";

eachBackend(
  "a model of learned positions generates up to the end of a context of any size",
  async () => {
    const model = gpt2({
      vocab_size: 17,
      n_positions: 30,
      n_embd: 16,
      n_layer: 2,
      n_head: 4,
      initializer_range: 0.8,
    });
    using key = random.key(4);
    const params = model.init(key);
    const prompts = [25, 3, 18].map((length) =>
      Array.from({ length }, (_, i) => (i * i + length) % 17)
    );
    const maxNewTokens = 5;
    const rows = await generateBatch(model, params, prompts, { maxNewTokens });
    for (const [i, prompt] of prompts.entries()) {
      const stream = generate(model, params, prompt, { maxNewTokens });
      const found = await Array.fromAsync(stream);
      using logits = model.apply(params, ids([[...prompt, ...found]]));
      using largest = logits.argmax();
      const [expected] = await largest.toArray() as number[][];
      assertEquals(found, expected!.slice(prompt.length - 1, -1));
      assertEquals(rows[i], found);
      const options = { beams: 1, maxNewTokens };
      const [beam] = await beamSearch(model, params, prompt, options);
      assertEquals(beam!.ids, found);
    }
    assert(new Set(rows.flat()).size > 3, "the model should not be trivial");
  },
);
