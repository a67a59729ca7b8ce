/**
 * Tests of the pipelines that are kept.
 *
 * @module
 */

import { assertEquals, assertStrictEquals } from "@std/assert";
import { openDevice } from "../../gpu/device.ts";
import { Pipelines } from "../../gpu/pipelines.ts";
import { ignore } from "./adapter.ts";

Deno.test({
  name: "the pipelines that were asked for last are kept",
  ignore,
  fn: async () => {
    const device = (await openDevice({ allowFallback: true }))!;
    const pipelines = new Pipelines(device, 2);
    const get = (value: number) =>
      pipelines.get(
        `@group(0) @binding(0) var<storage, read_write> a: array<u32>;
        @compute @workgroup_size(1) fn main() { a[0] = ${value}u; }`,
        [true],
      );
    const [first, second] = [get(1), get(2)];
    assertStrictEquals(get(1), first);
    get(3);
    assertStrictEquals(get(1), first);
    assertEquals(get(2) === second, false);
    await device.settled();
    device.dispose();
  },
});
