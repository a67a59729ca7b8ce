/**
 * The parameters of a model as a table from path to shape and first value.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  ones,
  random,
  scope,
  type Shape,
  type Tensor,
  type Tree,
  zeros,
} from "../../core/mod.ts";

/** Shape and first value of a parameter. */
export type Parameter = {
  /** Shape. */
  readonly shape: Shape;
  /** How it starts; "normal" has mean 0 and the deviation that the model says. */
  readonly start: "normal" | "ones" | "zeros";
  /** What the model's deviation is multiplied by; 1. */
  readonly scale?: number;
};

/** Parameters by path, in order. */
export type ParameterTable = Readonly<Record<string, Parameter>>;

/** A linear layer's parameters. */
export function dense(
  path: string,
  out: number,
  into: number,
  bias: boolean,
): ParameterTable {
  return {
    [`${path}.weight`]: { shape: [out, into], start: "normal" },
    ...(bias && { [`${path}.bias`]: { shape: [out], start: "zeros" } }),
  };
}

/** The same as GPT-2 has it: the weight is [in, out]. */
export function conv(
  path: string,
  into: number,
  out: number,
  scale = 1,
): ParameterTable {
  return {
    [`${path}.weight`]: { shape: [into, out], start: "normal", scale },
    [`${path}.bias`]: { shape: [out], start: "zeros" },
  };
}

/** A table of `rows` vectors. */
export function table(
  path: string,
  rows: number,
  channels: number,
): ParameterTable {
  return { [`${path}.weight`]: { shape: [rows, channels], start: "normal" } };
}

/** A norm's gain, and its bias where it has one. */
export function gain(
  path: string,
  channels: number,
  bias: boolean,
): ParameterTable {
  return {
    [`${path}.weight`]: { shape: [channels], start: "ones" },
    ...(bias && { [`${path}.bias`]: { shape: [channels], start: "zeros" } }),
  };
}

/** The parameters of `count` blocks one after another. */
export function blocks(
  count: number,
  block: (i: number) => ParameterTable,
): ParameterTable {
  return Object.assign(
    {},
    ...Array.from({ length: count }, (_, i) => block(i)),
  );
}

/** Shapes by path. */
export function shapesOf(table: ParameterTable): Record<string, Shape> {
  return Object.fromEntries(
    Object.entries(table).map(([path, { shape }]) => [path, shape]),
  );
}

/** First values of the parameters; the i-th one draws from `random.foldIn(key, i)`. */
export function initialize(
  table: ParameterTable,
  key: Tensor,
  deviation: number,
): Tree {
  return scope(() =>
    unflatten(
      Object.entries(table).map(([path, { shape, start, scale = 1 }], i) => {
        if (start === "ones") return [path, ones(shape)];
        if (start === "zeros") return [path, zeros(shape)];
        const draw = random.normal(random.foldIn(key, i), shape);
        return [path, draw.mul(deviation * scale)];
      }),
    )
  );
}

/** A tree from tensors by dotted path; a node whose keys are numbers is an array. */
export function unflatten(
  entries: readonly (readonly [string, Tensor])[],
): Tree {
  type Node = { [key: string]: Node | Tensor };
  const root: Node = {};
  for (const [path, tensor] of entries) {
    const keys = path.split(".");
    const last = keys.pop()!;
    let node = root;
    for (const key of keys) node = (node[key] ??= {}) as Node;
    node[last] = tensor;
  }
  const arrays = (node: Node | Tensor): Tree => {
    if (isTensor(node)) return node;
    const children = Object.entries(node).map(([key, child]) =>
      [key, arrays(child)] as const
    );
    return children.every(([key], i) => key === String(i))
      ? children.map(([, child]) => child)
      : Object.fromEntries(children);
  };
  return arrays(root);
}

function isTensor(node: object): node is Tensor {
  return "dtype" in node && typeof node.dtype === "string";
}
