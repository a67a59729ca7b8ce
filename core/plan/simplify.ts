/**
 * Simplification of a graph: equal nodes become one, constants are folded, and operations that change nothing go.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph } from "../backend.ts";
import { toposort, usesOf } from "../graph.ts";
import { isHalf, rounded } from "../half.ts";
import type { Node, Params } from "../node.ts";
import { bind, fill, ops } from "../ops.ts";
import { scalars } from "../scalars.ts";
import type { DType } from "../dtype.ts";
import { inFull } from "./key.ts";
import { format, sameShape, sizeOf } from "../shape.ts";
import { pruneLoops } from "./subgraphs.ts";
import { isView, isWidened, narrowed } from "./view.ts";

/** The same function with fewer nodes. */
export function simplify(whole: Graph): Graph {
  const graph = pruneLoops(whole);
  const known = new Map<string, Node>();
  const ids = new Map<Node, number>();
  const simpler = new Map<Node, Node>();
  const intern = (node: Node): Node => {
    if (node.op === "input") {
      if (!ids.has(node)) ids.set(node, ids.size);
      return node;
    }
    // Operands that a rule has just made are not numbered yet.
    const inputs = node.inputs.map((x) =>
      ids.has(x) ? x : intern(settle(x, false))
    );
    const operands = inputs.map((x) => ids.get(x)).join();
    const key = `${node.op} ${format(node)} ${operands} ${
      JSON.stringify(node.params, inFull)
    }`;
    const same = known.get(key);
    if (same) return same;
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    const own = changed ? { ...node, inputs } : node;
    known.set(key, own);
    ids.set(own, ids.size);
    return own;
  };
  const order = toposort(graph.outputs);
  const uses = usesOf(order, graph.outputs);
  for (const node of order) {
    const inputs = node.inputs.map((x) => simpler.get(x)!);
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    const alone = uses.get(node.inputs[0]!) === 1;
    const result = settle(changed ? { ...node, inputs } : node, alone);
    simpler.set(node, intern(result));
  }
  return {
    inputs: graph.inputs,
    outputs: graph.outputs.map((node) => simpler.get(node)!),
  };
}

/** A node after every rule that applies to it: one may give a node that another applies to. */
function settle(node: Node, alone: boolean): Node {
  // Nothing is computed of what has no elements, so nothing needs a place for it.
  if (sizeOf(node.shape) === 0 && node.op !== "input") return fill(node, 0);
  for (;;) {
    const next = folded(node) ?? reduce(node, alone);
    if (next === node) return node;
    node = next;
  }
}

/** The number that a node is everywhere, or null. */
function valueOf(node: Node): number | null {
  if (node.op !== "fill") return null;
  const { value } = node.params as Params["fill"];
  return isHalf(node.dtype) ? rounded(value, node.dtype) : value;
}

/** An elementwise node of numbers as the number that it is everywhere, or null. */
function folded({ op, shape, dtype, inputs }: Node): Node | null {
  if (inputs.length === 0 || ops[op].kind !== "elementwise") return null;
  const [a, b, c] = inputs.map(valueOf);
  if ([a, b, c].includes(null)) return null;
  const scalar = scalars[op as keyof typeof scalars];
  const value = scalar(a!, b ?? 0, c ?? 0, dtype, inputs[0]!.dtype);
  return fill({ shape, dtype }, wrapped(value, dtype));
}

/** A number as an element of a dtype; floats are rounded by the backend, once. */
function wrapped(value: number, dtype: DType): number {
  if (dtype === "i32") return value | 0;
  return dtype === "u32" ? value >>> 0 : value;
}

/** A simpler node of the same value, or the node itself; `alone` says that nothing else uses the first operand. */
function reduce(node: Node, alone: boolean): Node {
  const [x, y] = node.inputs;
  // Halves move as they are, and are widened where they are used.
  if (x && isWidened(x) && (isView(node) || node.op === "gather")) {
    const moved = { ...node, inputs: node.inputs.with(0, narrowed(x)) };
    const half = { ...moved, dtype: moved.inputs[0]!.dtype };
    return bind("cast", [half], { dtype: x.dtype });
  }
  const a = x && valueOf(x), b = y && valueOf(y);
  switch (node.op) {
    case "alias":
    case "stopGradient":
      return x!;
    case "cast":
      return x!.dtype === node.dtype ? x! : node;
    case "add":
      if (b === 0 || a === 0) return b === 0 ? x! : y!;
      return joined(x!, y!) ?? scattered(x!, y!) ?? scattered(y!, x!) ?? node;
    case "sub":
      return b === 0 ? x! : node;
    case "mul":
      return b === 1 ? x! : a === 1 ? y! : node;
    case "div":
      return b === 1 ? x! : node;
    case "neg":
      return x!.op === "neg" ? x!.inputs[0]! : node;
    case "max":
      return sizeOf(x!.shape) === sizeOf(node.shape) && sizeOf(node.shape) > 0
        ? bind("reshape", [x!], { shape: node.shape })
        : node;
    case "sum":
      if (sizeOf(x!.shape) === sizeOf(node.shape) && sizeOf(node.shape) > 0) {
        return bind("reshape", [x!], { shape: node.shape });
      }
      if (a == null || node.dtype !== "f32") return node;
      return fill(node, a * sizeOf(x!.shape) / Math.max(1, sizeOf(node.shape)));
    case "reshape":
      if (sameShape(x!.shape, node.shape)) return x!;
      if (x!.op === "reshape") {
        return bind("reshape", x!.inputs, { shape: node.shape });
      }
      return a != null ? fill(node, a) : node;
    case "transpose": {
      const { perm } = node.params as Params["transpose"];
      if (perm.every((axis, i) => axis === i)) return x!;
      if (x!.op === "transpose") {
        const inner = x!.params as Params["transpose"];
        const both = perm.map((axis) => inner.perm[axis]!);
        return bind("transpose", x!.inputs, { perm: both });
      }
      // (x y)ᵀ = yᵀ xᵀ: the gradient of a weight that is used transposed needs no copy.
      if (x!.op === "matmul" && alone && swapsLast(perm)) {
        const [left, right] = x!.inputs;
        const swapped = (m: Node) => bind("transpose", [m], { perm });
        return bind("matmul", [swapped(right!), swapped(left!)], {});
      }
      return a != null ? fill(node, a) : node;
    }
    case "pad":
      return sameShape(x!.shape, node.shape) ? x! : node;
    case "expand":
      if (sameShape(x!.shape, node.shape)) return x!;
      return a != null ? fill(node, a) : node;
    case "slice":
    case "flip":
      if (sameShape(x!.shape, node.shape) && node.op === "slice") return x!;
      return a != null ? fill(node, a) : node;
    case "gather":
      return a != null ? fill(node, a) : node;
    case "after":
      // A number is always there.
      return b != null ? x! : a != null ? fill(node, a) : node;
    case "part": {
      const { index } = node.params as Params["part"];
      const loop = x!.params as Params["scan"];
      return loop.length === 0 && index < loop.carries
        ? x!.inputs[index]!
        : node;
    }
    default:
      return node;
  }
}

/**
 * The sum of two paddings whose contents lie side by side along an axis, as one: gradients of the parts of a tensor are
 * its gradient in parts.
 */
function joined(x: Node, y: Node): Node | null {
  if (x.op !== "pad" || y.op !== "pad") return null;
  const [p, q] = [x, y].map((n) => n.params as Params["pad"]) as [
    Params["pad"],
    Params["pad"],
  ];
  const isPlain = [p, q].every(({ value, interior }) =>
    value === 0 && interior.every((n) => n === 0)
  );
  const differ = p.low.flatMap((low, i) =>
    low === q.low[i] && p.high[i] === q.high[i] ? [] : [i]
  );
  const [axis] = differ;
  if (!isPlain || differ.length !== 1) return null;
  if (p.low[axis!]! > q.low[axis!]!) return joined(y, x);
  const [a, b] = [x.inputs[0]!, y.inputs[0]!];
  const gap = q.low[axis!]! - p.low[axis!]! - a.shape[axis!]!;
  if (gap < 0) return null;
  const parts = [a, b].flatMap((n) =>
    n.op === "concat" && (n.params as Params["concat"]).axis === axis
      ? n.inputs
      : [n]
  );
  if (gap > 0) {
    const shape = a.shape.map((d, i) => i === axis ? gap : d);
    parts.splice(-1, 0, fill({ shape, dtype: x.dtype }, 0));
  }
  const together = bind("concat", parts, { axis: axis! });
  return bind("pad", [together], { ...p, high: q.high });
}

/** What is added to a scatter into zeros takes the place of these: nothing as large is stored beside it. */
function scattered(x: Node, y: Node): Node | null {
  if (x.op !== "scatterAdd") return null;
  const [into, ...what] = x.inputs;
  if (valueOf(into!) !== 0) return null;
  return bind("scatterAdd", [y, ...what], x.params as Params["scatterAdd"]);
}

function swapsLast(perm: readonly number[]): boolean {
  const rank = perm.length;
  return perm.every((axis, i) =>
    axis === (i < rank - 2 ? i : 2 * rank - 3 - i)
  );
}
