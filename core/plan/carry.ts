/**
 * Carries of loops that the next ones take the place of without a copy.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bufferRenamer } from "./expression.ts";
import type { SimpleKernel } from "./kernel.ts";
import type { Value } from "./lowered.ts";
import { overwritable, readBy, writtenBy } from "./place.ts";

/**
 * Has the kernels of a step that compute `next` store it in `carry`, if the carry is needed no more by then. The step are
 * the kernels from `first`; gives whether they do.
 */
export function storeInCarry(
  { kernels, values }: {
    readonly kernels: SimpleKernel[];
    readonly values: readonly Value[];
  },
  first: number,
  next: number,
  carry: number,
): boolean {
  const at = kernels.findIndex((kernel, i) =>
    i >= first && writtenBy(kernel).includes(next)
  );
  if (at < 0) return false;
  const kernel = kernels[at]!;
  const reads = readBy(kernel).has(carry);
  if (reads && !overwritable(kernel, next, values).includes(carry)) {
    return false;
  }
  if (kernels.slice(at + 1).some((k) => readBy(k).has(carry))) return false;
  const rename = bufferRenamer((id) => id === next ? carry : id);
  kernels.forEach((k, i) => {
    if (i >= at) kernels[i] = rename(k);
  });
  return true;
}
