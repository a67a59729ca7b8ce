/**
 * Optimizers for DyLoRA, in which the ranks that are not trained in a step stay as they are, moments included.
 *
 * Letters: R the rank of the adapters.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  iota,
  scope,
  ShapeError,
  type Tensor,
  tensor,
  type Tree,
  tree,
  vmap,
  where,
  zeros,
} from "../core/mod.ts";
import type { Optimizer, Schedule, Update } from "../nn/optim/mod.ts";

/** How `rankwise` updates. */
export interface RankwiseOptions {
  /** A number, or a schedule over all steps, whichever rank they train. */
  readonly learningRate: number | Schedule;
  /** The ranks that are trained, as `dylora` was told. */
  readonly ranks: readonly number[];
  /** Which of them learn, as `dylora` was told; "frozen". */
  readonly mode?: "frozen" | "full";
  /**
   * Whether ranks that a step does not train stay "untouched", the default, or move by momentum and decay, "reference", as
   * the authors' code lets them.
   */
  readonly momentum?: "untouched" | "reference";
}

/** State of `rankwise`. */
export type RankwiseState<S extends Tree = Tree> = {
  /** Steps done, i32. */
  readonly count: Tensor;
  /** State of the adapters: of each rank its own, along a first axis of R, step counts included. */
  readonly adapters: S;
  /** State of everything else that is trained. */
  readonly rest: S;
};

/** An optimizer that is told the rank of the step. */
export interface RankwiseOptimizer<S extends Tree = Tree> {
  /** The state before the first step. */
  init(params: Tree): RankwiseState<S>;
  /** Updates from gradients at a rank, an i32 scalar that may be traced. */
  update<P extends Tree>(
    grads: P,
    state: RankwiseState<S>,
    params: P,
    rank: Tensor,
  ): Update<P, RankwiseState<S>>;
}

/**
 * An optimizer for adapters of `dylora`: row i of A and column i of B have a state of their own, which moves in the steps
 * that train them alone. Other trained leaves are updated in each step.
 *
 * `make` builds the optimizer, which must work elementwise, such as `adamw`, for a rate. Throws `ShapeError` where the adapters differ in rank.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, tensor, zeros } from "cotan";
 * import { rankwise } from "cotan/lora";
 * import { sgd } from "cotan/nn";
 *
 * const optimizer = rankwise((learningRate) => sgd({ learningRate }), {
 *   learningRate: 1,
 *   ranks: [1, 2],
 *   mode: "frozen",
 * });
 * const params = { lora: { a: zeros([2, 3]), b: zeros([1, 2]) } };
 * const grads = { lora: { a: ones([2, 3]), b: ones([1, 2]) } };
 * const rank = tensor(2, { dtype: "i32" });
 * const { updates } = optimizer.update(grads, optimizer.init(params), params, rank);
 * assertEquals(await updates.lora.b.neg().toArray(), [[0, 1]]);
 * ```
 */
export function rankwise<S extends Tree>(
  make: (learningRate: Schedule) => Optimizer<S>,
  options: RankwiseOptions,
): RankwiseOptimizer<S> {
  const { learningRate, ranks, mode = "frozen", momentum } = options;
  const schedule = typeof learningRate === "number"
    ? () => tensor(learningRate)
    : learningRate;

  function init(params: Tree): RankwiseState<S> {
    return scope(() => {
      const [adapters, rest] = split(params);
      rankOf(adapters);
      const { init } = make(schedule);
      return {
        count: zeros([], { dtype: "i32" }),
        adapters: vmap(init)(adapters),
        rest: init(rest),
      };
    });
  }

  function update<P extends Tree>(
    grads: P,
    state: RankwiseState<S>,
    params: P,
    rank: Tensor,
  ): Update<P, RankwiseState<S>> {
    return scope(() => {
      const [adapters, rest] = split(params);
      const [adapterGrads, restGrads] = split(grads);
      const rate = schedule(state.count);
      const optimizer = make(() => rate);
      const size = rankOf(adapters);
      const next = vmap(optimizer.update<P>)(
        adapterGrads,
        state.adapters,
        adapters,
      );
      const others = optimizer.update(restGrads, state.rest, rest);
      if (momentum === "reference") return all(next, others);
      const learns = learning(size, rank);
      const pick = (x: Tensor, old: Tensor | number) =>
        where(learns.reshape([size, ...x.shape.slice(1).map(() => 1)]), x, old);
      return all({
        updates: tree.map((u) => pick(u, 0), next.updates),
        state: tree.map((x, old) => pick(x, old!), next.state, state.adapters),
      }, others);

      function all(own: Update<P, S>, others: Update<P, S>) {
        return {
          updates: tree.merge(turned(own.updates), others.updates),
          state: {
            count: state.count.add(1),
            adapters: own.state,
            rest: others.state,
          },
        };
      }
    });
  }

  /** Which ranks learn: bool [R]. */
  function learning(size: number, rank: Tensor): Tensor {
    const each = iota([size]);
    const used = each.lt(rank);
    if (mode === "full") return used;
    const trained = tensor(Int32Array.from(ranks));
    return used.and(each.ge(where(trained.lt(rank), trained, 0).max()));
  }
  return { init, update };
}

/** Adapters, with the rank as first axis, and everything else. */
function split<P extends Tree>(params: P): [P, P] {
  const [adapters, rest] = tree.partition(
    params,
    (path) => /(?:^|\.)lora\.(?:[^.]+\.)*[ab]$/.test(path),
  );
  return [turned(adapters), rest];
}

/** The tree with each b transposed. */
function turned<P extends Tree>(adapters: P): P {
  const leaves = tree.leaves(adapters).map(({ path, leaf }) =>
    path.endsWith("b") ? leaf.transpose() : leaf
  );
  return tree.fromLeaves(adapters, leaves);
}

/** R, the first size of each leaf. */
function rankOf(adapters: Tree): number {
  const leaves = tree.leaves(adapters);
  const [first] = leaves;
  if (!first) {
    throw new ShapeError("Cannot update by rank: there is no adapter");
  }
  const R = first.leaf.shape[0]!;
  const other = leaves.find(({ leaf }) => leaf.shape[0] !== R);
  if (!other) return R;
  throw new ShapeError(
    `Cannot update by rank: ${first.path} has rank ${R}, and ${other.path} ${
      other.leaf.shape[0]
    }`,
  );
}
