/**
 * Places of values: pages that are longer than a binding.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { SimpleKernel } from "../../../core/plan/kernel.ts";
import { place } from "../../../core/plan/place.ts";

Deno.test("a value longer than a binding has a page, and none that comes there later straddles bindings", () => {
  // Each of some sizes is made of those before it that are named.
  const sizes = [1, 250, 64, 64, 100, 1];
  const kernels = [[0], [1], [0], [0], [2, 3, 4]].map((reads, i) =>
    copy(reads, i + 1)
  );
  const { places, pages } = place(
    {
      values: sizes.map((size) => ({ shape: [size], dtype: "f32", size })),
      kernels,
      loops: [],
      outputs: [5],
    },
    1,
    [false],
    {
      buffersPerKernel: 8,
      buffersPerLaunch: 8,
      bytesPerBuffer: 4096,
      bytesPerBinding: 512,
      alignment: 256,
    },
  );
  const arena = places.flatMap((p) =>
    p.kind === "arena" ? [[p.page, p.offset, p.bytes]] : []
  );
  assertEquals(arena, [
    [0, 0, 1024],
    [1, 0, 256],
    [0, 0, 256],
    // Behind the one before it this would lie in two bindings.
    [2, 0, 512],
  ]);
  assertEquals(pages, [1024, 256, 512]);
});

/** The first elements of some values into another, one after another. */
function copy(reads: readonly number[], to: number): SimpleKernel {
  const dtype = "f32";
  const view = { offset: 0, strides: [] };
  return {
    kind: "map",
    shape: [],
    outputs: reads.map((buffer) => ({
      buffer: to,
      view,
      expr: { kind: "load", buffer, view, dtype },
    })),
  };
}
