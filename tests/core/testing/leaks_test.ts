/**
 * Leaks: what the report says.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import {
  grad,
  jit,
  ones,
  scope,
  type Tensor,
  tensor,
  valueAndGrad,
} from "cotan";
import { assertNoLeaks } from "cotan/testing";
import { currentRuntime } from "../../../core/context.ts";
import { inFloat64 } from "../../support/backends.ts";

/** The lines of the report on a function that leaks, the places as file and line. */
async function report(f: () => unknown): Promise<string[]> {
  const { message }: Error = await assertRejects(() => assertNoLeaks(f), Error);
  return message.split("\n").map((line) =>
    line.replace(/file:\S*\/(\w+\.ts):(\d+):\d+$/, (_, file) => file)
  );
}

const rule = "alive: dispose of each, donate it, or make it in a scope";

inFloat64(
  "each tensor that is left is listed with its type and line",
  async () => {
    assertEquals(
      await report(() => ones([2, 3])),
      [`Cannot leave 1 tensor ${rule}`, "  f32[2, 3] made at leaks_test.ts"],
    );
    const lines = await report(async () => {
      using x = ones([4]);
      x.exp().sum();
      await x.data();
      for (let i = 0; i < 3; i++) tensor([i], { dtype: "i32" });
      const { grads } = valueAndGrad((x: Tensor) => x.softmax().max())(x);
      grads.dispose();
    });
    assertEquals(lines, [
      `Cannot leave 6 tensors ${rule}`,
      "  f32[4] made at leaks_test.ts",
      "  f32[] made at leaks_test.ts",
      "  3 times i32[1] made at leaks_test.ts",
      "  f32[] made at leaks_test.ts",
    ]);
  },
);

inFloat64(
  "the line is that of the caller, however deep Cotan goes",
  async () => {
    const f = (x: Tensor): Tensor => x.softmax().max();
    const start = Number(new Error().stack!.match(/leaks_test\.ts:(\d+)/)![1]);
    const leaking = (x: Tensor): Promise<void> =>
      assertNoLeaks(() => grad(f)(x));
    const { message } = await assertRejects(() => leaking(ones([3])), Error);
    const line = Number(message.match(/leaks_test\.ts:(\d+):/)![1]);
    assertEquals(line, start + 2);
  },
);

inFloat64(
  "what is disposed of, donated or scoped is no leak, and reports nest",
  async () => {
    using add = jit((x: Tensor) => x.add(1), { donate: [0] });
    await assertNoLeaks(() => {
      add(add(ones([2]))).dispose();
      scope(() => {
        ones([2]).add(3);
      });
    });
    await assertRejects(
      () =>
        assertNoLeaks(() => {
          throw new Error("mine");
        }),
      Error,
      "mine",
    );
    assertEquals(currentRuntime().watch, null);
    // Reports nest.
    const outer = await report(async () => {
      await assertNoLeaks(() => ones([1]).dispose());
      await assertRejects(() => assertNoLeaks(() => ones([2])));
    });
    assertEquals(outer.length, 2);
  },
);

inFloat64("a storage without a tensor is a bug of ours", async () => {
  const { backend } = currentRuntime();
  const error = await assertRejects(
    () => assertNoLeaks(() => backend.upload(new Float64Array(2), "f32")),
    Error,
  );
  assertEquals(
    error.message,
    "Cotan has a bug: 16 bytes belong to no tensor",
  );
});
