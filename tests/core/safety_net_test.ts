/**
 * The safety net: tensors that are dropped without being disposed of are freed when they are collected.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { backendNames, hasWebGpu } from "../support/backends.ts";

/** What a process that can call the collector prints: bytes and tensors before, at the end, and a sum that still holds. */
const script = (backend: string): string => `
import { init, jit, memory, ones } from "cotan";

await init({ backend: "${backend}" });
const inUse = () => {
  const { liveBytes, tensors } = memory();
  return [liveBytes, tensors];
};
using step = jit((x) => x.add(1), { donate: [0] });
const kept = ones([1000]);
const before = inUse();
function drop() {
  for (let i = 0; i < 100; i++) {
    // Dropped, donated, disposed of: the net must take the first alone.
    const x = step(ones([1000])).mul(2);
    ones([7]).dispose();
    x.data();
  }
}
drop();
const most = inUse();
for (let i = 0; i < 50 && inUse()[1] > before[1]; i++) {
  globalThis.gc();
  await new Promise((resolve) => setTimeout(resolve, 10));
}
using sum = kept.sum();
console.log(JSON.stringify({ before, most, after: inUse(), sum: await sum.item() }));
Deno.exit();
`;

for (const backend of backendNames) {
  Deno.test({
    name: `tensors that are collected are freed (${backend})`,
    ignore: backend === "webgpu" && !hasWebGpu,
    fn: async () => {
      const child = new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--no-check",
          "--allow-all",
          "--v8-flags=--expose-gc",
          "-",
        ],
        cwd: fromFileUrl(new URL("../..", import.meta.url)),
        stdin: "piped",
        stdout: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(script(backend)));
      await writer.close();
      const { stdout } = await child.output();
      const { before, most, after, sum } = JSON.parse(
        new TextDecoder().decode(stdout),
      );
      assertEquals(before, [4000, 1]);
      // The results of add and of mul are dropped.
      assertEquals(most, [4000 + 200 * 4000, 201]);
      assertEquals(after, [4004, 2]);
      assertEquals(sum, 1000);
    },
  });
}
