import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type Data,
  DeviceError,
  full,
  grad,
  init,
  random,
  scope,
  type Tensor,
  tensor,
} from "cotan";
import { createRuntime, withRuntime } from "../../../core/context.ts";
import { Heap } from "../../../core/cpu/memory.ts";
import { createWasmBackend } from "../../../core/cpu/wasm.ts";
import { hasWideMemory } from "../../../core/cpu/address_bits.ts";
import { fusedAttention } from "../../../core/math/attention.ts";
import type { Plan } from "../../../core/plan/kernel.ts";
import { isFull } from "../../support/runs.ts";
import { acc, backends, whole } from "./support.ts";

const GiB = 2 ** 30;
const hasWide = hasWideMemory();

/** Runs a function where the engine has no memories with 64-bit addresses. */
function withoutWideMemory<T>(f: () => T): T {
  const { Memory } = WebAssembly;
  try {
    WebAssembly.Memory = class extends Memory {
      constructor(descriptor: WebAssembly.MemoryDescriptor) {
        super({ ...descriptor, address: "i32" } as typeof descriptor);
      }
    };
    return f();
  } finally {
    WebAssembly.Memory = Memory;
  }
}

Deno.test({
  name: "a budget above 4 GiB takes addresses of 64 bits",
  ignore: !hasWide,
  fn: async () => {
    const adapters: string[] = [];
    for (const memory of [4 * GiB, 4 * GiB + 1, 16 * GiB]) {
      using backend = await init({ backend: "wasm", memory, threads: 1 });
      adapters.push(backend.adapter.replace("relaxed simd, ", ""));
      using x = tensor([1, 2, 3]);
      assertEquals(await x.square().sum().item(), 14);
    }
    assertEquals(adapters, [
      "wasm: simd, 1 thread",
      "wasm: simd, 64-bit memory, 1 thread",
      "wasm: simd, 64-bit memory, 1 thread",
    ]);
  },
});

Deno.test("a budget above 4 GiB is refused where the engine has no 64-bit addresses", () => {
  assertThrows(
    () => withoutWideMemory(() => createWasmBackend({ bytes: 8 * GiB })),
    DeviceError,
    "Cannot take 8 GiB of memory: it takes 64-bit addresses, which the WebAssembly of this engine lacks; without them a budget is at most 4 GiB",
  );
});

Deno.test({
  name: "a budget beyond what a memory may have is refused",
  ignore: !hasWide,
  fn: async () => {
    await assertRejects(
      () => init({ backend: "wasm", memory: 17 * GiB }),
      DeviceError,
      "Cannot take 17 GiB of memory: a WebAssembly memory has at most 16 GiB",
    );
  },
});

Deno.test("where 32 bits reach no further, the error names the way on if the engine has one", () => {
  const message = (heap: Heap): string =>
    assertThrows(() => heap.allocate(5 * GiB), DeviceError).message;
  const text = (budget: string, end = "") =>
    `Cannot allocate a block: it takes 5 GiB, and 0 bytes of ${budget} are in use; a smaller batch needs less${end}`;
  const end = ", and init({ memory }) allows up to 16 GiB";
  assertEquals(message(new Heap()), text("4.0 GiB", hasWide ? end : ""));
  assertEquals(
    withoutWideMemory(() => message(new Heap())),
    text("4.0 GiB"),
  );
  // Who set a budget knows how to.
  assertEquals(message(new Heap(GiB)), text("1 GiB"));
});

/** Gradients of attention where storages begin so many bytes into the memory. */
async function slopesBehind(bytes: number): Promise<Data[]> {
  const backend = createWasmBackend({ threads: 1 });
  for (let left = bytes, part = 0; left > 0; left -= part) {
    part = Math.min(left, GiB);
    backend.create({ shape: [part / 4], dtype: "f32" });
  }
  const settings = { causal: true, window: 37, position: 0, scale: 1 };
  const slopes = withRuntime(createRuntime(backend), () =>
    scope(() => {
      const [q, k, v] = [0, 1, 2].map((seed) =>
        random.normal(random.key(seed), [150, 2, 17])
      );
      const loss = (p: { q: Tensor; k: Tensor; v: Tensor }) =>
        fusedAttention({ ...settings, masked: false }, [p.q, p.k, p.v]).out
          .square().sum();
      return Object.values(grad(loss)({ q: q!, k: k!, v: v! }));
    }));
  const data = await Promise.all(slopes.map((x) => x.data()));
  backend.dispose();
  return data;
}

Deno.test("addresses on both sides of 2 GiB compare as what they are", async () => {
  const expected = await slopesBehind(0);
  for (let before = 64; before <= 512; before += 32) {
    const data = await slopesBehind(2 * GiB - 1024 * before);
    assertEquals(data, expected);
  }
});

Deno.test("scratch memory beyond what a buffer may have is refused", () => {
  const shape = [2 ** 15, 2 ** 15], view = whole(shape);
  const operand = (buffer: number) => ({
    buffer,
    view: whole([2 ** 15, 2]),
    dtype: "f32" as const,
  });
  const plan: Plan = {
    inputs: 2,
    outputs: [{ kind: "input", index: 1 }],
    freed: [],
    steps: [{
      kernel: {
        kind: "matmul",
        shape,
        k: 2,
        a: operand(0),
        b: { ...operand(0), view: { offset: 0, strides: [1, 2] } },
        outputs: [{
          buffer: 1,
          view,
          expr: { kind: "cast", arg: acc(), dtype: "f16" },
        }],
      },
      buffers: [{ kind: "input", index: 0 }, { kind: "input", index: 1 }],
      dtypes: ["f32", "f16"],
    }],
    pages: [],
    loops: [],
  };
  for (const backend of Object.values(backends)) {
    assertThrows(
      () =>
        backend.compile({ inputs: [], outputs: [] }, [false, true], () => plan),
      DeviceError,
      "Cannot allocate the scratch of a program: it takes 4 GiB, and a buffer has at most 2.0 GiB",
    );
  }
});

Deno.test({
  name: "tensors that fill more than 4 GiB keep what they hold",
  ignore: !isFull || !hasWide ||
    Deno.systemMemoryInfo().available < 8 * GiB,
  fn: async () => {
    using _ = await init({ backend: "wasm", memory: 6 * GiB, threads: 2 });
    const size = 3 * 2 ** 27;
    const large = [1, 2, 3].map((x) => full([size], x));
    const ends = (
      x: Tensor,
    ) => [x.slice([[0, 1]]), x.slice([[size - 1, size]])];
    for (const [i, x] of large.entries()) {
      for (const end of ends(x)) assertEquals(await end.item(), i + 1);
      assertEquals(await x.mean().item(), i + 1);
      x.dispose();
    }
  },
});
