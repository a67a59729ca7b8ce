/**
 * Lowering of fused functions: a call becomes a kernel that reads its operands where they are.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Call, Node } from "../node.ts";
import type { Type } from "../shape.ts";
import { type InlineState, load, strided } from "./inline.ts";
import type { SimpleKernel, Strided } from "./kernel.ts";
import { contiguous } from "./view.ts";

/** What that needs of the lowering of the graph around it. */
export interface FusedContext extends InlineState {
  /** Adds a kernel. */
  readonly emit: (kernel: SimpleKernel) => void;
  /** A new value. */
  readonly create: (type: Type) => number;
}

/** Adds the kernel of a call, whose operands have contiguous rows; gives the value of each part that is read. */
export function lowerFused(
  context: FusedContext,
  call: Node,
  read: ReadonlySet<number>,
): Map<number, number> {
  const { body, fused } = call.params as Call;
  const operands = call.inputs.map((node): Strided => {
    const { shape, dtype } = node;
    const found = strided(context, node);
    const isApart = shape.at(-1) !== 1 && found.view.strides.at(-1) !== 1;
    const { buffer, view } = isApart ? load(context, node) : found;
    return { buffer, view, dtype, shape };
  });
  const values = new Map<number, number>();
  const results = body.outputs.map(({ shape, dtype }, i): Strided | null => {
    if (!read.has(i)) return null;
    const buffer = context.create({ shape, dtype });
    values.set(i, buffer);
    return { buffer, view: contiguous(shape), dtype, shape };
  });
  context.emit({
    kind: "fused",
    spec: fused!,
    shape: body.outputs[0]!.shape,
    operands,
    results,
    definition: body,
  });
  return values;
}
