/**
 * Memory: what is in use, and scopes that free what was made inside.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  currentRuntime,
  currentScope,
  currentTrace,
  popScope,
  pushScope,
} from "./context.ts";
import { Tensor } from "./tensor.ts";

/** What is in use on the current backend. */
export interface Memory {
  /** Bytes of tensors. */
  readonly liveBytes: number;
  /** Bytes taken from the system: tensors, arenas, pools, packed weights. */
  readonly reservedBytes: number;
  /** Number of tensors. */
  readonly tensors: number;
  /** Number of compiled programs. */
  readonly programs: number;
}

/**
 * What is in use on the current backend.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memory, zeros } from "cotan";
 *
 * const before = memory().liveBytes;
 * zeros([1024]).dispose();
 * assertEquals(memory().liveBytes, before);
 * ```
 */
export function memory(): Memory {
  const { backend, tensors, programs, jitted } = currentRuntime();
  return { ...backend.memory(), tensors, programs: programs.size + jitted };
}

/**
 * Calls `f` and frees every tensor that was made inside and is not in what it returns, a tree or anything without
 * tensors. `f` is synchronous.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memory, scope, tensor } from "cotan";
 *
 * const before = memory().tensors;
 * const total = scope(() => tensor([1, 2]).exp().add(1).sum());
 * assertEquals(memory().tensors, before + 1);
 * total.dispose();
 * ```
 */
export function scope<R>(f: () => R): R {
  if (currentTrace()) return f();
  const made = pushScope();
  let kept = new Set<Disposable>();
  try {
    const out = f();
    if (out instanceof Promise) {
      // It may fail for want of what is freed here.
      out.catch(() => {});
      throw new TypeError(
        "Cannot scope an async function: what it makes after an await is out of sight; use `using` there",
      );
    }
    kept = tensorsIn(out);
    return out;
  } finally {
    popScope();
    const outer = currentScope();
    for (const tensor of made) {
      if (kept.has(tensor)) outer?.add(tensor);
      else tensor[Symbol.dispose]();
    }
  }
}

/** Tensors anywhere in a result, which need not be a tree. */
function tensorsIn(
  value: unknown,
  found = new Set<Disposable>(),
): Set<Disposable> {
  if (typeof value !== "object" || value === null) return found;
  if (value instanceof Tensor) return found.add(value);
  for (const child of Object.values(value)) tensorsIn(child, found);
  return found;
}
