/**
 * Tests of the WebGPU backend: programs, pending work and reading back.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Executable, Storage } from "../../core/backend.ts";
import type { Place } from "../../core/plan/kernel.ts";
import { openWebGpu } from "../../gpu/mod.ts";
import { ignore, openBackend } from "./adapter.ts";
import { compile, increment, step } from "./programs.ts";
import { acc, call, fill, load, reduction, wave } from "./run.ts";

Deno.test({
  name: "openWebGpu gives a software adapter only where it is allowed",
  ignore,
  fn: async () => {
    const backend = (await openWebGpu({ allowFallback: true }))!;
    assertEquals(backend.name, "webgpu");
    assertEquals(backend.limits.buffersPerKernel, 8);
    assertEquals(backend.limits.alignment, 256);
    assert(backend.adapter.length > 0);
    assertEquals(backend.memory().liveBytes, 0);
    const isSoftware = /llvmpipe|swiftshader/i.test(backend.adapter);
    backend.dispose();
    if (isSoftware) assertEquals(await openWebGpu(), null);
  },
});

Deno.test({
  name: "what is uploaded comes back, in every dtype and size",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const samples = [
      [Float32Array.of(1.5, NaN, -0, Infinity), "f32"],
      [Int32Array.of(-1, 2 ** 31 - 1, -(2 ** 31)), "i32"],
      [Uint32Array.of(2 ** 32 - 1), "u32"],
      [Uint8Array.of(1, 0, 1, 1, 0), "bool"],
      [new Float32Array(0), "f32"],
      [new Uint8Array(0), "bool"],
      [wave(100000), "f32"],
      [wave(10).subarray(3, 8), "f32"],
      [new Float32Array(new SharedArrayBuffer(16)).fill(3), "f32"],
    ] as const;
    for (const [data, dtype] of samples) {
      const storage = backend.upload(data, dtype);
      const found = await backend.download(storage, dtype, data.length);
      assertEquals([...found], [...data]);
      assertEquals(found.constructor, data.constructor);
      backend.free(storage);
    }
    assertEquals(backend.memory().liveBytes, 0);
    backend.dispose();
  },
});

Deno.test({
  name: "one-primitive programs wait in a batch and give the right values",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const program = increment(backend, 5);
    let x: Storage = backend.upload(new Float32Array(5), "f32");
    for (let i = 0; i < 1000; i++) {
      const [y] = program.run([x]);
      backend.free(x);
      x = y!;
    }
    assertEquals(
      await backend.download(x, "f32", 5),
      new Float32Array(5).fill(1000),
    );
    backend.dispose();
  },
});

Deno.test({
  name: "uploads into reused buffers do not overtake recorded work",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const program = increment(backend, 4);
    const a = backend.upload(Float32Array.of(1, 2, 3, 4), "f32");
    const [b] = program.run([a]);
    backend.free(a);
    const c = backend.upload(Float32Array.of(9, 9, 9, 9), "f32");
    assertEquals(
      await backend.download(b!, "f32", 4),
      Float32Array.of(2, 3, 4, 5),
    );
    assertEquals(
      await backend.download(c, "f32", 4),
      Float32Array.of(9, 9, 9, 9),
    );
    backend.dispose();
  },
});

Deno.test({
  name: "downloads at the same time each see the moment they were asked for",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const program = compile(backend, 1, {
      outputs: [{ kind: "input", index: 0 }],
      steps: [
        step(3, call("add", [load(0, [1]), fill(1)]), [
          { kind: "input", index: 0 },
        ]),
      ],
    });
    const x = backend.upload(new Float32Array(3), "f32");
    const reads = [];
    for (let i = 0; i < 12; i++) {
      reads.push(backend.download(x, "f32", 3));
      assertEquals(program.run([x]), [x]);
    }
    const found = await Promise.all(reads);
    assertEquals(found.map(([v]) => v), [...Array(12).keys()]);
    backend.dispose();
  },
});

Deno.test({
  name: "a program uses inputs, arena slots and outputs together",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const slot = (offset: number): Place => ({
      kind: "arena",
      page: 0,
      offset,
      bytes: 20,
    });
    const both = [load(0, [1]), load(1, [1])];
    const program = compile(backend, 2, {
      outputs: [{ kind: "new", size: 5, dtype: "f32" }],
      freed: [1],
      pages: [512],
      loops: [],
      steps: [
        step(5, call("add", both), [
          { kind: "input", index: 0 },
          { kind: "input", index: 1 },
          slot(0),
        ]),
        step(5, call("mul", [load(0, [1]), load(0, [1])]), [
          slot(0),
          slot(256),
        ]),
        step(5, call("sub", both), [
          slot(256),
          slot(0),
          { kind: "output", index: 0 },
        ]),
      ],
    });
    const x = backend.upload(Float32Array.of(1, 2, 3, 4, 5), "f32");
    for (const sign of [1, -1]) {
      const y = backend.upload(new Float32Array(5).fill(sign), "f32");
      const [z] = program.run([x, y]);
      const expected = [1, 2, 3, 4, 5].map((v) => (v + sign) ** 2 - v - sign);
      assertEquals([...await backend.download(z!, "f32", 5)], expected);
      backend.free(z!);
    }
    // The same tensor twice.
    const w = backend.upload(Float32Array.of(1, 2, 3, 4, 5), "f32");
    const [z] = program.run([w, w]);
    assertEquals(
      [...await backend.download(z!, "f32", 5)],
      [1, 2, 3, 4, 5].map((v) => 4 * v * v - 2 * v),
    );
    backend.dispose();
  },
});

Deno.test({
  name: "programs of different sizes share the arena",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const twice = (size: number): Executable => {
      const slot: Place = {
        kind: "arena",
        page: 0,
        offset: 0,
        bytes: 4 * size,
      };
      const double = call("add", [load(0, [1]), load(0, [1])]);
      return compile(backend, 1, {
        outputs: [{ kind: "new", size, dtype: "f32" }],
        pages: [4 * size],
        loops: [],
        steps: [
          step(size, double, [{ kind: "input", index: 0 }, slot]),
          step(size, double, [slot, { kind: "output", index: 0 }]),
        ],
      });
    };
    const programs = [twice(10), twice(100000), twice(1000)];
    const reserved = backend.memory().reservedBytes;
    for (const round of [0, 1]) {
      for (const [i, size] of [10, 100000, 1000].entries()) {
        const x = backend.upload(new Float32Array(size).fill(i + round), "f32");
        const [y] = programs[i]!.run([x]);
        const found = await backend.download(y!, "f32", size);
        assertEquals(found, new Float32Array(size).fill(4 * (i + round)));
        backend.free(x);
        backend.free(y!);
      }
    }
    const most = backend.memory().reservedBytes;
    assert(most > reserved + 400000);
    programs.forEach((program) => program.dispose());
    assert(backend.memory().reservedBytes < most - 390000);
    backend.dispose();
  },
});

Deno.test({
  name: "a steady training loop allocates nothing",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const size = 1000;
    // w -= 0.1 w in place; loss = Σ w² of a slot in the arena.
    const slot: Place = { kind: "arena", page: 0, offset: 0, bytes: 4 * size };
    const program = compile(backend, 2, {
      outputs: [{ kind: "input", index: 0 }, {
        kind: "new",
        size: 1,
        dtype: "f32",
      }],
      pages: [4 * size],
      loops: [],
      steps: [
        step(size, call("mul", [load(0, [1]), load(0, [1])]), [
          { kind: "input", index: 0 },
          slot,
        ]),
        step(
          size,
          call("sub", [
            load(1, [1]),
            call("mul", [load(1, [1]), load(0, [0])]),
          ]),
          [{ kind: "input", index: 1 }, { kind: "input", index: 0 }],
        ),
        {
          kernel: reduction([], [size], "sum", load(0, [1]), [{
            buffer: 1,
            view: { offset: 0, strides: [] },
            expr: acc,
          }]),
          buffers: [slot, { kind: "output", index: 1 }],
          dtypes: ["f32", "f32"],
        },
      ],
    });
    let w: Storage = backend.upload(new Float32Array(size).fill(1), "f32");
    let reserved = 0;
    let pending: Promise<unknown> = Promise.resolve();
    for (let i = 0; i < 50; i++) {
      const rate = backend.upload(Float32Array.of(0.1), "f32");
      const [next, loss] = program.run([w, rate]);
      backend.free(rate);
      await pending;
      pending = backend.download(loss!, "f32", 1).then(([value]) => {
        const exact = size * 0.81 ** i;
        assert(
          Math.abs(value! / exact - 1) < 1e-4,
          `loss ${value}, not ${exact}`,
        );
      });
      backend.free(loss!);
      w = next!;
      if (i === 5) reserved = backend.memory().reservedBytes;
    }
    await pending;
    assertEquals(backend.memory().reservedBytes, reserved);
    assertEquals(backend.memory().liveBytes, 4 * size);
    backend.dispose();
  },
});
