/**
 * A program of its own that loads a folder and prints what that took: seconds, and bytes at the peak beyond those
 * before, as the system counts them.
 *
 * @module
 */

import { init, ones, tree } from "../../../core/mod.ts";
import { fromPretrained } from "../../../nn/checkpoint/mod.ts";

const [folder, backend, dtype] = Deno.args as [
  string,
  "wasm" | "webgpu",
  "f32" | "bf16",
];
await init({ backend });
const warm = ones([16]);
await warm.data();

function status(key: string): number {
  const text = Deno.readTextFileSync("/proc/self/status");
  return 1024 * Number(new RegExp(`${key}:\\s+(\\d+)`).exec(text)![1]);
}

const before = status("VmRSS");
try {
  // From here on the peak is counted anew; where that may not be, that of the start is lower anyway.
  Deno.writeTextFileSync("/proc/self/clear_refs", "5");
} catch (error) {
  console.error(error);
}
const start = performance.now();
const { params } = await fromPretrained(folder, { dtype });
const leaf = tree.leaves(params).at(-1)!.leaf;
await leaf.data();
const seconds = (performance.now() - start) / 1000;
console.log(JSON.stringify({
  seconds,
  before,
  peak: status("VmHWM") - before,
  weights: (dtype === "f32" ? 4 : 2) * tree.count(params),
}));
Deno.exit(0);
