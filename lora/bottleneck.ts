/**
 * Bottleneck adapters as a transform of the model tree: the baselines of the LoRA paper's tables.
 *
 * Letters: S size of the bottleneck; `out` is the number of features that a layer gives.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  random,
  scope,
  type Selector,
  ShapeError,
  type Tensor,
  type Tree,
  TreeError,
  zeros,
} from "../core/mod.ts";
import { kindOf, layersOf, mapLayers, sizesOf } from "./layers.ts";
import { selectLayers } from "./targets.ts";

/** How `bottleneck` adapts a model. */
export interface BottleneckOptions {
  /**
   * The layers whose outputs pass a bottleneck: "houlsby" for what attention and feed-forward layers give, as Houlsby et
   * al. (arXiv 1902.00751), "pfeiffer" for the feed-forward layers alone, as Pfeiffer et al. (arXiv 2005.00247), or a selector.
   */
  readonly targets: "houlsby" | "pfeiffer" | Selector;
  /** S, from 1. */
  readonly size: number;
  /** Key for the first values. */
  readonly key: Tensor;
}

/** The last layers of attention and of feed-forward networks, under the names of GPT-2, Llama, BERT and DistilBERT. */
const ATTENTION =
  /(?:^|\.)(?:attn\.c_proj|self_attn\.o_proj|attention\.output\.dense|attention\.out_lin)$/;
const FEED_FORWARD =
  /(?:^|\.)(?:mlp\.c_proj|mlp\.down_proj|layer\.\d+\.output\.dense|ffn\.lin2)$/;

/**
 * The model with a bottleneck adapter in each target: y becomes y + relu(y downᵀ + bias) upᵀ + bias, behind the layer and
 * before the residual sum. `up` starts at zero, so that the model computes what it did, bit for bit; the authors start
 * near the identity. Houlsby et al. train the norms as well: take them by a selector beside `isAdapter`.
 *
 * Throws `TreeError` where no layer is taken or one has a bottleneck already, and `ShapeError` for a size below 1.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tree, zeros } from "cotan";
 * import { bottleneck, isAdapter } from "cotan/lora";
 *
 * const params = { mlp: { c_proj: { weight: zeros([16, 4]), bias: zeros([4]) } } };
 * const tuned = bottleneck(params, { targets: "pfeiffer", size: 2, key: random.key(0) });
 * const [trainable] = tree.partition(tuned, isAdapter);
 * assertEquals(tree.count(trainable), 4 * 2 + 2 + 2 * 4 + 4);
 * ```
 */
export function bottleneck<T extends Tree>(
  params: T,
  options: BottleneckOptions,
): T {
  const { targets, size, key } = options;
  if (!Number.isInteger(size) || size < 1) {
    throw new ShapeError(
      `Cannot adapt by bottlenecks of size ${size}: it must be a positive integer`,
    );
  }
  const order = new Map(layersOf(params).map(({ path }, i) => [path, i]));
  const chosen = new Set(choose(params, targets, [...order.keys()]));
  return scope(() =>
    mapLayers(params, (layer) => {
      const { path, node } = layer;
      if (!chosen.has(path)) return node;
      if (node.bottleneck) {
        throw new TreeError(
          `Cannot adapt ${path}: it has a bottleneck already`,
        );
      }
      const { out } = sizesOf(layer, kindOf(layer));
      const draw = random.normal(random.foldIn(key, order.get(path)!), [
        size,
        out,
      ]);
      return {
        ...node,
        bottleneck: {
          down: { weight: draw.mul(0.01), bias: zeros([size]) },
          up: { weight: zeros([out, size]), bias: zeros([out]) },
        },
      };
    })
  );
}

function choose(
  params: Tree,
  targets: BottleneckOptions["targets"],
  paths: readonly string[],
): readonly string[] {
  if (targets !== "houlsby" && targets !== "pfeiffer") {
    return selectLayers(params, { targets }).map(({ path }) => path);
  }
  const found = paths.filter((path) =>
    FEED_FORWARD.test(path) || targets === "houlsby" && ATTENTION.test(path)
  );
  if (found.length > 0) return found;
  throw new TreeError(
    `Cannot adapt by bottlenecks: "${targets}" knows none of the ${paths.length} layers; give a selector`,
  );
}
