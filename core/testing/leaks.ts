/**
 * Leaks: tensors that a function made and left alive, each with the line that made it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { currentRuntime } from "../context.ts";
import { invariant, withCaller } from "../errors.ts";
import { stateOf, type Tensor } from "../tensor.ts";

/**
 * Calls `f`, which may be async, and throws if it leaves tensors on the current backend that it made: the message has
 * the type of each and the line outside of Cotan that made it. A jitted function keeps the tensors that it made while it
 * was traced until it is disposed of.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { ones } from "cotan";
 * import { assertNoLeaks } from "cotan/testing";
 *
 * await assertNoLeaks(async () => {
 *   using x = ones([2, 3]);
 *   using sum = x.sum();
 *   await sum.item();
 * });
 * await assertRejects(() => assertNoLeaks(() => ones([2, 3])), Error, "f32[2, 3] made at file:");
 * ```
 */
export async function assertNoLeaks(f: () => unknown): Promise<void> {
  const runtime = currentRuntime();
  const { backend, watch } = runtime;
  const { liveBytes } = backend.memory();
  const made = new Map<Tensor, string>();
  runtime.watch = (tensor) => {
    watch?.(tensor);
    made.set(tensor as Tensor, lineOutside());
  };
  try {
    await f();
  } finally {
    runtime.watch = watch;
  }
  const counts = new Map<string, number>();
  let left = 0;
  for (const [tensor, line] of made) {
    if (stateOf(tensor).kind !== "stored") continue;
    const what = `${tensor} made at ${line}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
    left++;
  }
  if (left > 0) {
    const lines = [...counts]
      .map(([what, n]) => `\n  ${n > 1 ? `${n} times ` : ""}${what}`);
    throw new Error(
      `Cannot leave ${left} ${
        left > 1 ? "tensors" : "tensor"
      } alive: dispose of each, donate it, or make it in a scope${
        lines.join("")
      }`,
    );
  }
  const lost = backend.memory().liveBytes - liveBytes;
  invariant(lost <= 0, `${lost} bytes belong to no tensor`);
}

const root = new URL("../../", import.meta.url).href;

/** The line of the innermost caller that is no part of Cotan; code in its documentation is none. */
function lineOutside(): string {
  const { stack = "" } = withCaller(new Error(), lineOutside);
  const lines = stack.split("\n").flatMap((frame) =>
    frame.match(/(?:\(|at |@)([a-z]+:\/\/.*:\d+:\d+)\)?$/)?.[1] ?? []
  );
  const isOurs = (line: string): boolean =>
    line.startsWith(root) &&
    /^(core|nn|lora|gpu)\/[^$#]*$/.test(line.slice(root.length));
  return lines.find((line) => !isOurs(line)) ?? "an unknown line";
}
