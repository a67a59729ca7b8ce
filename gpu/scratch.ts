/**
 * The scratch page: partial results between the kernels of a step.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Limits } from "../core/backend.ts";
import type { DType } from "../core/dtype.ts";
import { coalesce } from "../core/plan/coalesce.ts";
import type {
  Kernel,
  MatmulKernel,
  Output,
  Place,
  ReduceKernel,
  Reduction,
  Step,
} from "../core/plan/kernel.ts";
import { isWhole } from "../core/plan/reach.ts";
import { sizeOf, stridesOf } from "../core/shape.ts";
import { alignment, roundUp } from "./buffers.ts";

/** The page of the arena that holds partial results. */
const scratchPage = -1;

/** Whether a place is on the scratch page. */
export function isScratch(
  place: Place,
): place is Place & { readonly kind: "arena" } {
  return place.kind === "arena" && place.page === scratchPage;
}

/** The first stage: a kernel whose results over `shape` go to the scratch page. */
export function toScratch(
  step: Step,
  shape: readonly number[],
  dtypes: readonly DType[],
  limits: Limits,
  kernel:
    | Omit<ReduceKernel, "shape" | "outputs">
    | Omit<MatmulKernel, "shape" | "outputs">,
): Step {
  const outputs = dtypes.map((dtype, index): Output => ({
    buffer: step.buffers.length + index,
    view: { offset: 0, strides: stridesOf(shape) },
    expr: { kind: "acc", index, dtype },
  }));
  const whole = { ...kernel, shape, outputs };
  return withScratch(step, whole, sizeOf(shape), dtypes, limits);
}

/** The second stage: the results on the scratch page combined, and what the whole step stores. */
export function fromScratch(
  step: Step,
  { shape, outputs }: ReduceKernel | MatmulKernel,
  pieces: number,
  combined: readonly Reduction[],
  limits: Limits,
): Step {
  const size = sizeOf(shape);
  const dtypes = combined.map(dtypeOf);
  const view = { offset: 0, strides: [...stridesOf(shape), size] };
  const reductions = combined.map(({ combine }, i): Reduction => ({
    combine,
    body: {
      kind: "load",
      buffer: step.buffers.length + i,
      view,
      dtype: dtypes[i]!,
    },
  }));
  const kernel = coalesce({
    kind: "reduce",
    shape,
    over: [pieces],
    passes: [{ reductions, outputs: [] }],
    outputs,
  });
  return withScratch(step, kernel, pieces * size, dtypes, limits);
}

/** A kernel on the buffers of a step and, after them, regions of the scratch page. */
export function withScratch(
  step: Step,
  kernel: Kernel,
  elements: number,
  dtypes: readonly DType[],
  { bytesPerBinding }: Limits,
): Step {
  const bytes = 4 * elements;
  const used = step.buffers.filter(isScratch)
    .map((place) => roundUp(place.offset + place.bytes, alignment));
  let end = Math.max(0, ...used);
  const regions = dtypes.map((): Place => {
    const offset = isWhole(end, bytes, bytesPerBinding)
      ? end
      : roundUp(end, bytesPerBinding);
    end = offset + roundUp(bytes, alignment);
    return { kind: "arena", page: scratchPage, offset, bytes };
  });
  return {
    kernel,
    buffers: [...step.buffers, ...regions],
    dtypes: [...step.dtypes, ...dtypes],
  };
}

/** The dtype of what a reduction computes. */
export function dtypeOf({ body }: Reduction): DType {
  return body.dtype;
}
