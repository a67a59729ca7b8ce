/**
 * Tests of the WebGPU backend: memory, limits and failures.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { iota, zeros } from "cotan";
import { formatBytes } from "../../core/budget.ts";
import { createRuntime, withRuntime } from "../../core/context.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Expr } from "../../core/plan/kernel.ts";
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
  name: "a tensor larger than a buffer is refused with its size",
  ignore,
  fn: async () => {
    const backend = await openBackend("software", 2 ** 40);
    const most = backend.limits.bytesPerBuffer;
    const size = Math.ceil((most + 1) / 4);
    const { message } = assertThrows(
      () =>
        compile(backend, 0, { outputs: [{ kind: "new", size, dtype: "f32" }] }),
      DeviceError,
    );
    const sizes = `it takes ${
      formatBytes(4 * size)
    }, and a buffer has at most ${formatBytes(most)}`;
    assertEquals(message, `Cannot allocate a result: ${sizes}`);
    assertEquals(backend.memory().liveBytes, 0);
    backend.dispose();
  },
});

Deno.test({
  name: "a kernel that reaches more than all bindings together is refused",
  ignore,
  fn: async () => {
    const backend = await openBackend("software", 2 ** 30, { binding: 256 });
    const x = load(0, [1]);
    const gathered: Expr = {
      ...x as Expr & { kind: "load" },
      kind: "gather",
      view: { offset: 0, strides: [0] },
      index: { kind: "cast", arg: load(1, [1]), dtype: "i32" },
      stride: 1,
      size: 500,
    };
    assertThrows(
      () =>
        compile(backend, 1, {
          outputs: [{ kind: "new", size: 500, dtype: "f32" }],
          steps: [
            step(500, gathered, [
              { kind: "input", index: 0 },
              { kind: "input", index: 1 },
              { kind: "output", index: 0 },
            ]),
          ],
        }),
      DeviceError,
      "Cannot bind the tensors of a kernel: it reaches 2.0 KiB of one and takes 24 bindings of 256 bytes, where there are 8; smaller tensors need less",
    );
    const runtime = createRuntime(backend);
    const table = { shape: [50, 10], dtype: "f32" as const };
    const error = assertThrows(
      () =>
        withRuntime(
          runtime,
          () => zeros(table.shape).take(iota([3])).dispose(),
        ),
      DeviceError,
    );
    assertEquals(
      error.message,
      "Cannot index f32[50, 10]: it takes 2.0 KiB, and a kernel reaches at most 8 times 256 bytes, its other tensors included; split it into smaller ones",
    );
    assertThrows(
      () =>
        withRuntime(
          runtime,
          () =>
            zeros([50, 10]).scatterAdd(
              zeros([3, 10], { dtype: "i32" }),
              zeros([3, 10]),
            ),
        ),
      DeviceError,
      error.message,
    );
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
