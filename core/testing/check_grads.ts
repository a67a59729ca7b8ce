/**
 * Gradients against finite differences.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { createRuntime, withRuntime } from "../context.ts";
import { createReferenceBackend } from "../cpu/interpreter.ts";
import {
  DTypeError,
  grad,
  type NestedArray,
  random,
  scope,
  type Tensor,
  tensor,
  tree,
} from "../mod.ts";
import { type HostTree, type OnBackend, toTensors } from "./host_tensor.ts";

/** What a function is checked at: a tree of tensors, of the host or not, or a number or nested array that stands for one. */
export type Argument = tree.Tree | HostTree | NestedArray;

/** What the function gets for an argument. */
export type AsTensor<T> = T extends NestedArray ? Tensor
  : T extends HostTree ? OnBackend<T>
  : T;

/** How gradients are checked. */
export interface CheckGradsOptions {
  /** 2 checks the gradients of gradients as well; 1 when absent. */
  readonly order?: 1 | 2;
  /** Largest relative difference; 1e-6 for gradients and 1e-5 for their gradients when absent. */
  readonly rtol?: number;
  /** Key of the random directions; `random.key(0)` when absent. */
  readonly key?: Tensor;
}

/** A function of the f32 tensors among the arguments to what adds up to a scalar. */
type Terms = (floats: Tensor[]) => Tensor[];

/** The derivatives of that scalar along a direction of each tensor, by the rules and by differences. */
interface Comparison {
  readonly rules: Tensor[];
  readonly differences: Tensor[];
  /** What a difference between the two is relative to. */
  readonly sizes: Tensor[];
}

/** Step of the central differences: their error is about its square, that of rounding about 1e-16 over it. */
const STEP = 1e-5;

/** Share of the terms themselves in what errors are relative to, since their rounding is among them. */
const ROUNDING = 1e-4;

/**
 * Checks the gradient of `f` by each f32 tensor in its arguments along a random direction against central finite
 * differences, in float64. Throws where they differ. A result that is no scalar is summed with random weights.
 *
 * It runs on a reference backend of its own, so `f` must not close over tensors: pass them as arguments. Arguments
 * must stay clear of kinks, since differences across one mean nothing.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { stopGradient } from "cotan";
 * import { checkGrads } from "cotan/testing";
 *
 * await checkGrads((x, y) => x.mul(y).sin(), [[1, 2], 3], { order: 2 });
 * await assertRejects(() => checkGrads((x) => stopGradient(x), [1]));
 * ```
 */
export async function checkGrads<const A extends readonly Argument[]>(
  f: (...args: { -readonly [K in keyof A]: AsTensor<A[K]> }) => Tensor,
  args: A,
  options: CheckGradsOptions = {},
): Promise<void> {
  const runtime = createRuntime(createReferenceBackend("f64"));
  const trees = withRuntime(runtime, () => args.map(asTree));
  const leaves = tree.leaves(trees);
  const data = await Promise.all(leaves.map(({ leaf }) => leaf.data()));
  if (!leaves.some(({ leaf }) => leaf.dtype === "f32")) {
    throw new DTypeError(
      "Cannot check gradients: no argument holds an f32 tensor",
    );
  }
  const words = options.key ? [...await options.key.data()] : [0, 0];

  function compareAll(): Comparison[] {
    const key = tensor(Uint32Array.from(words));
    const tensors = leaves.map(({ leaf: { shape, dtype } }, i) =>
      tensor(data[i]!, { shape, dtype })
    );
    const terms: Terms = (floats) => {
      const rest = [...floats];
      const all = tensors.map((x) => x.dtype === "f32" ? rest.shift()! : x);
      const out = f(...tree.fromLeaves(trees, all) as Parameters<typeof f>);
      if (out.dtype !== "f32") {
        throw new DTypeError(
          `Cannot check gradients of a function that returns ${out}: only f32 has a gradient`,
        );
      }
      return [out.mul(noise(key, 0, out))];
    };
    const slopes: Terms = (floats) =>
      grad((floats: Tensor[]) => total(terms(floats)))(floats)
        .map((g, i) => g.mul(noise(key, 2 * i + 1, g)));
    const floats = tensors.filter(({ dtype }) => dtype === "f32");
    const directions = floats.map((x, i) => noise(key, 2 * i + 2, x));
    return (options.order === 2 ? [terms, slopes] : [terms])
      .map((terms) => compare(terms, floats, directions));
  }
  // Synchronous, so that nobody else sees the other backend.
  const comparisons = withRuntime(runtime, () => scope(compareAll));

  const names = leaves.filter(({ leaf }) => leaf.dtype === "f32")
    .map(({ path }) => path);
  for (const [i, { rules, differences, sizes }] of comparisons.entries()) {
    const rtol = options.rtol ?? [1e-6, 1e-5][i]!;
    for (const [j, name] of names.entries()) {
      const rule = await rules[j]!.item();
      const difference = await differences[j]!.item();
      const size = await sizes[j]!.item();
      if (Math.abs(rule - difference) <= rtol * size) continue;
      const what = i === 0 ? "gradient" : "gradient of the gradient";
      throw new Error(
        `Cannot confirm the ${what} by argument ${name}: in the direction of key [${
          words.join(", ")
        }] the rules give ${short(rule)}, finite differences give ${
          short(difference)
        }`,
      );
    }
  }
}

/** A number as it stands in messages; what differences have beyond these digits is rounding. */
function short(x: number): number {
  return Number(x.toPrecision(10));
}

function asTree(arg: Argument): tree.Tree {
  const isNested = (x: Argument): boolean =>
    typeof x === "number" || typeof x === "boolean" ||
    Array.isArray(x) && x.every(isNested);
  return isNested(arg)
    ? tensor(arg as NestedArray)
    : toTensors(arg) as tree.Tree;
}

/** Numbers in [-1, 1), the same at each call. */
function noise(key: Tensor, use: number, { shape }: Tensor): Tensor {
  return random.uniform(random.foldIn(key, use), shape, { min: -1, max: 1 });
}

function total(terms: readonly Tensor[]): Tensor {
  return terms.map((x) => x.sum()).reduce((a, b) => a.add(b));
}

function compare(
  terms: Terms,
  floats: readonly Tensor[],
  directions: readonly Tensor[],
): Comparison {
  const loss = (floats: Tensor[]): Tensor => total(terms(floats));
  // Each by itself: where they cancel, their rounding stays.
  const size = total(terms([...floats]).map((x) => x.abs())).mul(ROUNDING);
  const products = grad(loss)([...floats])
    .map((g, i) => g.mul(directions[i]!));
  const moved = (i: number, step: number): Tensor =>
    loss(floats.map((x, j) => i === j ? x.add(directions[i]!.mul(step)) : x));
  return {
    rules: products.map((p) => p.sum()),
    differences: products.map((_, i) =>
      moved(i, STEP).sub(moved(i, -STEP)).div(2 * STEP)
    ),
    sizes: products.map((p) => p.abs().sum().add(size)),
  };
}
