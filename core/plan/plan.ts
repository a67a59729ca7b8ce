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
import { fuse } from "./fuse.ts";
import { bufferRenamer } from "./expression.ts";
import type { Expr, Kernel, Place, Plan, Step } from "./kernel.ts";
import { launch } from "./launch.ts";
import { lower } from "./lower.ts";
import type { Lowered } from "./lowered.ts";
import { place, readBy, writtenBy } from "./place.ts";
import { fewestBindings } from "./reach.ts";
import { simplify } from "./simplify.ts";
import { rewriteStretches } from "./stretches.ts";
import { inlineCalls } from "./subgraphs.ts";

/** Plans a graph within the limits of a backend; `donated` tells which inputs may be overwritten. */
export function buildPlan(
  graph: Graph,
  donated: readonly boolean[],
  limits: Limits,
): Plan {
  const lowered = copyRepeats(
    lower(simplify(inlineCalls(graph, limits.fused)), limits, donated),
    graph.inputs,
    donated,
  );
  // Kernels may count on results that take the place of operands; where these do not in the end, they must not.
  const plan = planKernels(lowered, graph, donated, limits, donated);
  return keepsLimits(plan, limits)
    ? plan
    : planKernels(lowered, graph, donated, limits, []);
}

function planKernels(
  lowered: Lowered,
  graph: Graph,
  donated: readonly boolean[],
  limits: Limits,
  overwritten: readonly boolean[],
): Plan {
  const { values } = lowered;
  const { kernels, loops } = rewriteStretches(lowered, (stretch) =>
    launch(
      fuse(stretch, limits, overwritten),
      values,
      graph.inputs.length,
      limits.buffersPerLaunch,
    ).map(coalesce));
  const { places, outputs, pages } = place(
    { values, outputs: lowered.outputs, kernels, loops },
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
    loops,
    pages,
  };
}

function keepsLimits({ steps }: Plan, limits: Limits): boolean {
  return steps.every(({ kernel }) =>
    kernel.kind === "group" ||
    fewestBindings(kernel, limits) <= limits.buffersPerKernel
  );
}

/** An output that is an input which stays the caller's, or that comes twice, gets a kernel that copies it. */
function copyRepeats(
  lowered: Lowered,
  inputs: readonly Node[],
  donated: readonly boolean[],
): Lowered {
  const values = [...lowered.values];
  const kernels = [...lowered.kernels];
  const axes = [...lowered.axes];
  const seen = new Set<number>();
  const outputs = lowered.outputs.map((id) => {
    const isKept = id < inputs.length && !donated[id];
    if (!isKept && !seen.has(id)) {
      seen.add(id);
      return id;
    }
    const { size, dtype } = values[id]!;
    const copy = values.push(values[id]!) - 1;
    const view = { offset: 0, strides: [1] };
    const expr: Expr = { kind: "load", buffer: id, view, dtype };
    kernels.push({
      kind: "map",
      shape: [size],
      outputs: [{ buffer: copy, view, expr }],
    });
    axes.push([0]);
    return copy;
  });
  return { ...lowered, values, kernels, axes, outputs };
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

function renumber(kernel: Kernel, buffer: (id: number) => number): Kernel {
  const rename = bufferRenamer(buffer);
  return kernel.kind === "group"
    ? { ...kernel, parts: kernel.parts.map(rename) }
    : rename(kernel);
}
