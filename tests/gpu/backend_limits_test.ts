/**
 * Tests of the WebGPU backend: memory, limits and failures.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DeviceError } from "../../core/errors.ts";
import { openWebGpu } from "../../gpu/mod.ts";
import { ignore, openBackend } from "./adapter.ts";
import { compile, increment, step } from "./programs.ts";
import { call, load } from "./run.ts";

Deno.test({
  name: "tensors without elements go through programs",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const program = increment(backend, 0);
    const x = backend.upload(new Float32Array(0), "f32");
    const [y] = program.run([x]);
    assertEquals(await backend.download(y!, "f32", 0), new Float32Array(0));
    backend.dispose();
  },
});

Deno.test({
  name: "an allocation beyond the budget is refused with its size",
  ignore,
  fn: async () => {
    const backend = await openBackend("software", 2 ** 20);
    const pooled = backend.upload(new Float32Array(2 ** 17), "f32");
    backend.free(pooled);
    // The pool makes room.
    const x = backend.upload(new Float32Array(2 ** 18 - 2 ** 10), "f32");
    assertThrows(
      () => backend.upload(new Float32Array(2 ** 14), "f32"),
      DeviceError,
      "Cannot allocate f32[16384]: it takes 64 KiB, and 1020 KiB of 1 MiB are in use; a smaller batch needs less",
    );
    backend.free(x);
    backend.dispose();
  },
});

Deno.test({
  name: "a tensor larger than a binding is refused with its size",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const most = backend.limits.bytesPerBuffer;
    if (most < 2 ** 29) {
      const program = increment(backend, 4);
      const big = compile(backend, 0, {
        outputs: [{ kind: "new", size: most / 4 + 1, dtype: "f32" }],
      });
      const [x] = big.run([]);
      const { liveBytes } = backend.memory();
      assertThrows(
        () => program.run([x!]),
        DeviceError,
        "Cannot bind 128.0 MiB",
      );
      assertEquals(backend.memory().liveBytes, liveBytes);
    }
    backend.dispose();
  },
});

Deno.test({
  name:
    "a shader that is rejected makes the next download fail with its message",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const x = backend.upload(Float32Array.of(1), "f32");
    // Adding a bool is no planner's doing.
    const broken = compile(backend, 1, {
      outputs: [{ kind: "new", size: 1, dtype: "f32" }],
      steps: [
        step(1, call("add", [load(0, [1]), load(0, [1], "bool")]), [
          { kind: "input", index: 0 },
          { kind: "output", index: 0 },
        ]),
      ],
    });
    const [y] = broken.run([x]);
    await assertRejects(
      () => backend.download(y!, "f32", 1),
      DeviceError,
      "WebGPU rejected a shader",
    );
    assertThrows(
      () => broken.run([x]),
      DeviceError,
      "WebGPU rejected a shader",
    );
    backend.dispose();
  },
});

Deno.test({
  name: "a backend that is disposed of says so, and leaves nothing behind",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const program = increment(backend, 4);
    const x = backend.upload(new Float32Array(4), "f32");
    program.run([x]);
    const read = backend.download(x, "f32", 4);
    program.run([x]);
    backend.dispose();
    await assertRejects(() => read, DeviceError);
    const message = "The WebGPU backend is disposed of";
    assertThrows(() => program.run([x]), DeviceError, message);
    assertThrows(
      () => backend.upload(new Float32Array(1), "f32"),
      DeviceError,
      message,
    );
    await assertRejects(
      () => backend.download(x, "f32", 4),
      DeviceError,
      message,
    );
    backend.dispose();
  },
});

Deno.test({
  name: "a device that was handed in is shared and outlives the backend",
  ignore,
  fn: async () => {
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    const backend = (await openWebGpu({ device }))!;
    backend.dispose();
    const buffer = device.createBuffer({
      size: 4,
      usage: GPUBufferUsage.STORAGE,
    });
    buffer.destroy();
    device.destroy();
  },
});

Deno.test({
  name: "a device that is lost makes the next use fail",
  ignore,
  fn: async () => {
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    const backend = (await openWebGpu({ device }))!;
    const x = backend.upload(new Float32Array(4), "f32");
    device.destroy();
    await device.lost;
    const message = "The WebGPU device is lost";
    assertThrows(() => increment(backend, 4), DeviceError, message);
    await assertRejects(
      () => backend.download(x, "f32", 4),
      DeviceError,
      message,
    );
    backend.dispose();
  },
});
