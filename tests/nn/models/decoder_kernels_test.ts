/**
 * How many kernels a block of a decoder takes, in training and for one more token.
 *
 * @module
 */

import { assert } from "@std/assert";
import {
  jit,
  type Program,
  random,
  type Tensor,
  tensor,
  type Tree,
  valueAndGrad,
  zeros,
} from "cotan";
import {
  type Cache,
  type CausalModel,
  crossEntropy,
  gpt2,
  llama,
} from "cotan/nn";
import { eachBackend } from "../../support/backends.ts";

type Make = (layers: number) => CausalModel<Tree>;

const makeGPT2: Make = (n_layer) =>
  gpt2({ vocab_size: 50, n_positions: 64, n_embd: 32, n_layer, n_head: 4 });

const makeLlama = (heads: number): Make => (num_hidden_layers) =>
  llama({
    vocab_size: 50,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers,
    num_attention_heads: 4,
    num_key_value_heads: heads,
    max_position_embeddings: 4096,
  });

/** A step of training, without the optimizer. */
function gradients(model: CausalModel<Tree>): Program {
  const loss = (params: Tree, ids: Tensor) =>
    crossEntropy(model.apply(params, ids), ids);
  using step = jit(valueAndGrad(loss));
  const ids = zeros([2, 16], { dtype: "i32" });
  return step.program(model.init(random.key(0)), ids);
}

/** A step of decoding with a cache of a capacity. */
function decoding(capacity: number): (model: CausalModel<Tree>) => Program {
  return (model) => {
    using step = jit(
      (params: Tree, cache: Cache, ids: Tensor, position: Tensor) =>
        model.step(params, ids, { cache, position }),
      { donate: [1] },
    );
    const position = tensor(3, { dtype: "i32" });
    const ids = zeros([1, 1], { dtype: "i32" });
    const params = model.init(random.key(0));
    return step.program(params, model.cache(1, capacity), ids, position);
  };
}

const cases: [string, Make, (model: CausalModel<Tree>) => Program, number][] = [
  ["training a block of GPT-2", makeGPT2, gradients, 30],
  ["training a block of Llama", makeLlama(4), gradients, 37],
  ["training a block with grouped queries", makeLlama(2), gradients, 39],
  ["a token through a block of GPT-2", makeGPT2, decoding(64), 11],
  ["a token through a block of Llama", makeLlama(2), decoding(64), 15],
  ["a token with a large cache", makeLlama(2), decoding(4096), 18],
];

for (const [what, make, programOf, most] of cases) {
  eachBackend(`${what} takes at most ${most} kernels`, () => {
    const [one, two] = [1, 2].map((layers) => programOf(make(layers)));
    const count = two!.kernels.length - one!.kernels.length;
    assert(count <= most, `${count}\n${two}`);
  }, ["wasm"]);
}
