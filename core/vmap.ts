/**
 * Batching: a function of single examples becomes one of a batch, as a transformation from graph to graph.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { batchNodes } from "./batch.ts";
import { currentTrace, withTrace } from "./context.ts";
import { ShapeError, TreeError } from "./errors.ts";
import type { Node } from "./node.ts";
import { bind, input } from "./ops.ts";
import { format, normalizeAxis } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import { evaluate, nodeOf, results, traced } from "./trace.ts";
import * as tree from "./tree.ts";

/** Which axes a function is batched over. */
export interface VmapOptions {
  /** For each argument the axis of its tensors that is mapped over, or null where all examples share them; all 0 when absent. */
  readonly inAxes?: readonly (number | null)[];
  /** The axis of the results that counts examples; 0 when absent. */
  readonly outAxis?: number;
}

/** A tensor of the arguments, and which of its axes is mapped over. */
interface Argument extends tree.Leaf {
  readonly axis: number | null;
}

/**
 * The function that calls `f` on each example of a batch, all at once, and stacks the results.
 *
 * `f` sees tensors without the mapped axis. Arguments and results are trees of tensors; tensors that `f` closes over are
 * shared by all examples. It may stand inside `grad`, `jit` and `jvp` and they inside it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, type Tensor, tensor, vmap } from "cotan";
 *
 * const loss = (w: Tensor, x: Tensor) => w.mul(x).sum().square();
 * const perExample = vmap(grad(loss), { inAxes: [null, 0] });
 * const grads = perExample(tensor([1, 2]), tensor([[1, 0], [0, 1], [1, 1]]));
 * assertEquals(await grads.toArray(), [[2, 0], [0, 4], [6, 6]]);
 * ```
 */
export function vmap<
  A extends readonly tree.Tree[] = Tensor[],
  R extends tree.Tree = Tensor,
>(f: (...args: A) => R, options: VmapOptions = {}): (...args: A) => R {
  return (...args) =>
    evaluate(() => {
      const { inAxes = args.map(() => 0), outAxis = 0 } = options;
      const inputs = flatten(args, inAxes);
      const size = batchSize(inputs);
      const batched = new Map<Node, Node>();
      // A trace of its own: an example that leaks from `f` would be an input that nobody gives.
      const { out, outputs } = withTrace(() => {
        const primals = inputs.map(({ leaf, axis }) => {
          if (axis === null) return leaf;
          const shape = leaf.shape.toSpliced(axis, 1);
          const example = input({ shape, dtype: leaf.dtype });
          batched.set(example, moveAxis(nodeOf(leaf), axis, 0));
          return traced(example);
        });
        const out = f(...tree.fromLeaves(args, primals));
        return {
          out,
          outputs: results(out).map(nodeOf),
        };
      }, currentTrace());
      const stacked = batchNodes(outputs, batched, size).map((result) => {
        const axis = normalizeAxis(outAxis, result, "vmap to");
        return traced(moveAxis(result, 0, axis));
      });
      return tree.fromLeaves(out, stacked);
    });
}

/** The tensors of the arguments, with mapped axes counted from the front. */
function flatten(
  args: readonly tree.Tree[],
  inAxes: readonly (number | null)[],
): Argument[] {
  if (inAxes.length !== args.length) {
    throw new TreeError(
      `Cannot vmap over ${args.length} arguments: inAxes has ${inAxes.length} entries, one for each argument is expected`,
    );
  }
  return args.flatMap((_, i) =>
    tree.leaves({ [i]: args[i] }).map(({ path, leaf }) => {
      const axis = inAxes[i]!;
      const what = `vmap over argument ${path},`;
      return {
        path,
        leaf,
        axis: axis === null ? null : normalizeAxis(axis, leaf, what),
      };
    })
  );
}

/** The size that all mapped axes share. */
function batchSize(inputs: readonly Argument[]): number {
  const mapped = inputs.flatMap(({ path, leaf, axis }) =>
    axis === null ? [] : {
      size: leaf.shape[axis]!,
      name: `axis ${axis} of argument ${path}, ${format(leaf)}`,
    }
  );
  const [first] = mapped;
  if (!first) {
    throw new TreeError(
      "Cannot vmap over no tensor: inAxes must give an axis to an argument that holds one",
    );
  }
  const other = mapped.find(({ size }) => size !== first.size);
  if (!other) return first.size;
  throw new ShapeError(
    `Cannot vmap over ${first.name}, and ${other.name}: sizes ${first.size} and ${other.size} differ`,
  );
}

/** The axis at one position moved to another, the others in their order. */
function moveAxis(node: Node, from: number, to: number): Node {
  if (from === to) return node;
  const others = node.shape.map((_, i) => i).toSpliced(from, 1);
  return bind("transpose", [node], { perm: others.toSpliced(to, 0, from) });
}
