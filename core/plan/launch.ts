/**
 * Launches: independent kernels that do the same to different tensors go together, as the updates of all parameters.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { exprsOf, outputsOf, visitExpr } from "./expression.ts";
import type { Expr, Kernel, SimpleKernel } from "./kernel.ts";
import type { Value } from "./lowered.ts";
import { readBy, writtenBy } from "./place.ts";

/**
 * Kernels with those of one structure together, each where the last of its group stands. A kernel joins only if nothing
 * before that needs its results, and if what it reads need not live longer for that than its results will.
 */
export function launch(
  kernels: readonly SimpleKernel[],
  values: readonly Value[],
  inputs: number,
  buffersPerLaunch: number,
): Kernel[] {
  const reads = kernels.map((kernel) => readBy(kernel));
  const writes = kernels.map((kernel) => writtenBy(kernel));
  const lastUse = new Map<number, number>();
  const uses = values.map((): number[] => []);
  kernels.forEach((_, i) => {
    for (const id of [...reads[i]!, ...writes[i]!]) uses[id]!.push(i);
  });
  uses.forEach((steps, id) => {
    if (steps.length > 0) lastUse.set(id, steps.at(-1)!);
  });

  /** Whether a kernel may run at a later position. */
  const canWait = (from: number, to: number): boolean => {
    const waits = writes[from]!.every((id) => {
      const next = uses[id]!.find((step) => step > from);
      return next === undefined || next > to;
    });
    // A later kernel may overwrite part of what this one reads.
    const isStable = [...reads[from]!].every((id) =>
      uses[id]!.every((step) =>
        step <= from || step > to || !writes[step]!.includes(id)
      )
    );
    if (!waits || !isStable) return false;
    let longer = 0, shorter = 0;
    for (const id of reads[from]!) {
      if (id >= inputs && lastUse.get(id)! < to) longer += values[id]!.size;
    }
    for (const id of writes[from]!) shorter += values[id]!.size;
    return longer <= shorter;
  };

  const open = new Map<string, { members: number[]; buffers: Set<number> }>();
  const groups: { members: number[] }[] = [];
  kernels.forEach((kernel, i) => {
    const key = structureOf(kernel);
    if (key === null) return;
    const own = [...reads[i]!, ...writes[i]!];
    const group = open.get(key);
    const fits = group && group.members.every((from) => canWait(from, i)) &&
      new Set([...group.buffers, ...own]).size <= buffersPerLaunch;
    if (fits) {
      group.members.push(i);
      for (const id of own) group.buffers.add(id);
    } else {
      const fresh = { members: [i], buffers: new Set(own) };
      open.set(key, fresh);
      groups.push(fresh);
    }
  });
  const together = new Map<number, SimpleKernel[]>();
  const moved = new Set<number>();
  for (const { members } of groups) {
    if (members.length < 2) continue;
    members.forEach((i) => moved.add(i));
    together.set(members.at(-1)!, members.map((i) => kernels[i]!));
  }
  return kernels.flatMap((kernel, i): Kernel[] => {
    const parts = together.get(i);
    if (parts) return [{ kind: "group", parts }];
    return moved.has(i) ? [] : [kernel];
  });
}

/** What a map or reduction does, whatever its sizes and buffers; null for other kernels. */
function structureOf(kernel: SimpleKernel): string | null {
  if (kernel.kind !== "map" && kernel.kind !== "reduce") return null;
  const ids = new Map<Expr, number>();
  const parts: string[] = [kernel.kind];
  const seen = new Set<Expr>();
  const idOf = (e: Expr): number => ids.get(e)!;
  for (const expr of exprsOf(kernel)) {
    visitExpr(expr, (e) => {
      ids.set(e, ids.size);
      parts.push(textOf(e, idOf));
    }, seen);
    parts.push(String(idOf(expr)));
  }
  if (kernel.kind === "reduce") {
    const walks = kernel.passes.map(({ reductions, outputs }) =>
      `${reductions.map((r) => r.combine)} ${outputs.length}`
    );
    parts.push(walks.join("|"));
  }
  return `${parts.join(";")} ${outputsOf(kernel).length}`;
}

function textOf(e: Expr, idOf: (e: Expr) => number): string {
  switch (e.kind) {
    case "const":
      return `${e.dtype} ${Object.is(e.value, -0) ? "-0" : e.value}`;
    case "acc":
      return `acc${e.index} ${e.dtype}`;
    case "cast":
      return `cast ${e.dtype} ${idOf(e.arg)}`;
    case "gather":
      return `gather ${e.dtype} ${idOf(e.index)}`;
    case "repeat":
      return `repeat ${e.dtype} ${e.times}`;
    case "unpack":
      return `unpack ${e.levels}`;
    case "call":
      return `${e.op} ${e.dtype} ${e.args.map(idOf)}`;
    default:
      return `${e.kind} ${e.dtype}`;
  }
}
