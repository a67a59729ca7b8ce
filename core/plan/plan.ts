/**
 * Planning: a graph becomes kernels in order, each buffer with its place.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph, Limits } from "../backend.ts";
import type { Node } from "../node.ts";
import { coalesce } from "./coalesce.ts";
import { mapLeaves } from "./expression.ts";
import type { Expr, Kernel, Place, Plan, Step } from "./kernel.ts";
import { lower, type Lowered } from "./lower.ts";
import { place, readBy, writtenBy } from "./place.ts";
import { simplify } from "./simplify.ts";

/** Plans a graph within the limits of a backend; `donated` tells which inputs may be overwritten. */
export function buildPlan(
  graph: Graph,
  donated: readonly boolean[],
  limits: Limits,
): Plan {
  const lowered = copyRepeats(
    lower(simplify(graph), limits.buffersPerKernel),
    graph.inputs,
    donated,
  );
  const kernels = lowered.kernels.map(coalesce);
  const { places, outputs, pages } = place(
    { ...lowered, kernels },
    graph.inputs.length,
    donated,
    limits,
  );
  const kept = new Set(
    outputs.flatMap((o) => o.kind === "input" ? o.index : []),
  );
  return {
    inputs: graph.inputs.length,
    outputs,
    freed: donated.flatMap((gone, i) => gone && !kept.has(i) ? [i] : []),
    steps: kernels.map((kernel) => bindBuffers(kernel, lowered, places)),
    loops: lowered.loops,
    pages,
  };
}

/** An output that is an input which stays the caller's, or that comes twice, gets a kernel that copies it. */
function copyRepeats(
  lowered: Lowered,
  inputs: readonly Node[],
  donated: readonly boolean[],
): Lowered {
  const values = [...lowered.values];
  const kernels = [...lowered.kernels];
  const seen = new Set<number>();
  const outputs = lowered.outputs.map((id) => {
    const isKept = id < inputs.length && !donated[id];
    if (!isKept && !seen.has(id)) {
      seen.add(id);
      return id;
    }
    const { size, dtype } = values[id]!;
    const copy = values.push({ size, dtype }) - 1;
    const view = { offset: 0, strides: [1] };
    const expr: Expr = { kind: "load", buffer: id, view, dtype };
    kernels.push({
      kind: "map",
      shape: [size],
      outputs: [{ buffer: copy, view, expr }],
    });
    return copy;
  });
  return { ...lowered, values, kernels, outputs };
}

/** Renumbers the buffers of a kernel from 0; values that share a place are one buffer. */
function bindBuffers(
  kernel: Kernel,
  { values }: Lowered,
  places: readonly Place[],
): Step {
  const numbers = new Map<string, number>();
  const buffers: Place[] = [];
  const dtypes: Step["dtypes"][number][] = [];
  const numberOf = (id: number): number => {
    const at = places[id]!;
    const key = JSON.stringify(at);
    let number = numbers.get(key);
    if (number === undefined) {
      number = buffers.push(at) - 1;
      dtypes.push(values[id]!.dtype);
      numbers.set(key, number);
    }
    return number;
  };
  // Reads first, then writes, so that equal kernels number their buffers alike.
  for (const id of readBy(kernel)) numberOf(id);
  for (const id of writtenBy(kernel)) numberOf(id);
  return { kernel: renumber(kernel, numberOf), buffers, dtypes };
}

function renumber(kernel: Kernel, numberOf: (id: number) => number): Kernel {
  const inExpr = (expr: Expr): Expr =>
    mapLeaves(
      expr,
      (e) => "buffer" in e ? { ...e, buffer: numberOf(e.buffer) } : e,
    )!;
  if (kernel.kind === "scatter") {
    const { index, source, buffer } = kernel;
    return {
      ...kernel,
      buffer: numberOf(buffer),
      index: inExpr(index),
      source: inExpr(source),
    };
  }
  const outputs = kernel.outputs.map(({ buffer, view, expr }) => ({
    buffer: numberOf(buffer),
    view,
    expr: inExpr(expr),
  }));
  switch (kernel.kind) {
    case "map":
      return { ...kernel, outputs };
    case "reduce":
      return { ...kernel, outputs, body: inExpr(kernel.body) };
    case "matmul": {
      const { a, b } = kernel;
      return {
        ...kernel,
        outputs,
        a: { ...a, buffer: numberOf(a.buffer) },
        b: { ...b, buffer: numberOf(b.buffer) },
      };
    }
  }
}
