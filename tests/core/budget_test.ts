/**
 * Memory budgets: what does not fit is named before it is taken, and all that was there goes on.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type BackendName,
  DeviceError,
  init,
  jit,
  memory,
  ones,
  type Tensor,
  tensor,
} from "cotan";
import { ADDRESSABLE, outOfMemory } from "../../core/budget.ts";
import { backendNames, hasWebGpu } from "../support/backends.ts";

const MiB = 2 ** 20;

/** Registers a test for each backend with a budget of 1 MiB. */
function withinMiB(
  name: string,
  f: (backend: BackendName) => Promise<void>,
): void {
  for (const backend of backendNames) {
    Deno.test({
      name: `${name} (${backend})`,
      ignore: backend === "webgpu" && !hasWebGpu,
      fn: async () => {
        using _ = await init({ backend, memory: MiB });
        await f(backend);
      },
    });
  }
}

/** The message of a call that finds no memory and must change nothing. */
function refusal(call: () => unknown): string {
  const before = memory();
  const { message } = assertThrows(call, DeviceError);
  assertEquals(memory(), before);
  return message;
}

/** What the messages have in common; how much else is in use depends on the backend. */
function assertNames(message: string, wanted: string, takes: string): void {
  const start = `Cannot allocate ${wanted}: it takes ${takes}, and `;
  assert(message.startsWith(start), message);
  const rest = message.slice(start.length);
  assert(
    /^[\d.]+ (bytes|[KMG]iB) of 1 MiB are in use; a smaller batch needs less$/
      .test(rest),
    message,
  );
}

withinMiB("a tensor beyond the budget is named with its type", async () => {
  const x = ones([128, 1024]);
  assertNames(
    refusal(() =>
      tensor(new Float32Array(3 * MiB / 8), { shape: [3, MiB / 8] })
    ),
    "f32[3, 131072]",
    "1.5 MiB",
  );
  // Compiled, but never run.
  assertThrows(() => ones([1024, 1024]), DeviceError);
  assertNames(
    refusal(() => ones([1024, 1024])),
    "f32[1024, 1024]",
    "4 MiB",
  );
  assertEquals(await x.sum().item(), 128 * 1024);
  x.dispose();
  // What was freed is there again.
  using y = ones([96, 1024]);
  assertEquals((await y.data())[5], 1);
});

withinMiB(
  "a call that finds no memory takes nothing it was given",
  async () => {
    using grow = jit((x: Tensor, y: Tensor) => ({
      x: x.add(1),
      y: y.reshape([-1, 1]).expand([1024, 512]).mul(y.slice([[0, 512]])),
    }), { donate: [0], name: "grow" });
    const x = ones([64]);
    using y = ones([1024]);
    assertThrows(() => grow(x, y), DeviceError);
    assertNames(refusal(() => grow(x, y)), "f32[1024, 512]", "2 MiB");
    assertEquals((await x.data())[63], 1);
    using z = x.add(y.sum());
    assertEquals((await z.data())[0], 1025);
  },
);

withinMiB(
  "intermediate values beyond the budget are named",
  async (backend) => {
    using small = jit((x: Tensor) => x.matmul(x).exp().matmul(x).sum());
    using x = ones([8, 8]);
    const before = await small(x).item();
    using large = jit((x: Tensor) => {
      const y = x.reshape([64, 1]).matmul(ones([1, 8192]));
      return y.matmul(y.transpose()).sum();
    });
    const wanted = backend === "reference"
      ? "f32[64, 8192]"
      : "the arena of a program";
    const { message } = assertThrows(() => large(x), DeviceError);
    assert(message.startsWith(`Cannot allocate ${wanted}: it takes `), message);
    assertEquals(refusal(() => large(x)), message);
    assertEquals(await small(x).item(), before);
  },
);

Deno.test("the text tells a budget that is spent from one in pieces", () => {
  const text = (inUse: number, budget: number): string =>
    outOfMemory({ shape: [1e6, 1000], dtype: "f32" }, 4e9, inUse, budget)
      .message;
  assertEquals(
    text(12 * MiB, ADDRESSABLE),
    "Cannot allocate f32[1000000, 1000]: it takes 3.7 GiB, and 12 MiB of 4.0 GiB are in use, the rest in smaller pieces; a smaller batch needs less",
  );
  assertEquals(
    text(2 ** 31, ADDRESSABLE),
    "Cannot allocate f32[1000000, 1000]: it takes 3.7 GiB, and 2 GiB of 4.0 GiB are in use; a smaller batch needs less",
  );
});

Deno.test("a tensor beyond what a buffer may have is named (wasm)", async () => {
  using _ = await init({ backend: "wasm" });
  assertEquals(
    assertThrows(() => ones([600_000, 1000]), DeviceError).message,
    "Cannot allocate f32[600000, 1000]: it takes 2.2 GiB, and a buffer has at most 2.0 GiB",
  );
});

Deno.test({
  name:
    "a result beyond what a buffer may have leaves the device alive (webgpu)",
  ignore: !hasWebGpu,
  fn: async () => {
    using _ = await init({ backend: "webgpu" });
    using x = ones([1]);
    const { message } = assertThrows(
      () => x.expand([1e6, 1e6]).add(1),
      DeviceError,
    );
    const start =
      "Cannot allocate f32[1000000, 1000000]: it takes 3725.3 GiB, and a buffer has at most ";
    assert(message.startsWith(start), message);
    // A shader that counts beyond u32 would have been rejected, and have closed the device.
    assertEquals(await x.add(1).item(), 2);
  },
});

Deno.test("a budget that holds nothing is refused", async () => {
  for (const bytes of [0, -1, NaN, 1000]) {
    const error = await init({ backend: "wasm", memory: bytes })
      .catch((error) => error);
    assert(error instanceof DeviceError);
    assertEquals(
      error.message,
      `Cannot take ${bytes} bytes of memory: a backend needs 65536 at least`,
    );
  }
});
