/**
 * The powers of two that weights of attention are.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { functionOf } from "../../../core/cpu/assembler.ts";
import { eachVector } from "../../../core/cpu/attention_rows.ts";
import { Lanes } from "../../../core/cpu/lanes.ts";
import { encodeModule } from "../../../core/cpu/module.ts";
import { v128 } from "../../../core/cpu/opcodes.ts";
import { exp2OfWeight } from "../../../core/cpu/vector_math.ts";

/** Powers of as many numbers as fit in a page. */
function powersOf(values: Float32Array, relaxed: boolean): Float32Array {
  const { code, parameters: [row] } = functionOf(32, "a");
  const v = new Lanes(code, relaxed);
  eachVector(v, [row!], 0, values.byteLength, ([p]) => {
    code.get(p!).memory(v128.load);
    code.get(p!, exp2OfWeight(v, v.pop()).local).memory(v128.store);
  });
  const bytes = encodeModule([code.finish()]);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 ** 16 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
    env: { memory, sgemm: () => {} },
  });
  const found = new Float32Array(memory.buffer, 0, values.length);
  found.set(values);
  (exports.run as (row: number) => void)(0);
  return found;
}

for (const relaxed of [true, false]) {
  Deno.test(`weights are powers of two within 1.5 ulp (relaxed: ${relaxed})`, () => {
    const values = Float32Array.from(
      { length: 2 ** 14 },
      (_, i) => -126 * (i / 2 ** 14) ** 2,
    );
    powersOf(values, relaxed).forEach((found, i) => {
      const expected = 2 ** values[i]!;
      const ulp = 2 ** (Math.floor(Math.log2(expected)) - 23);
      assert(Math.abs(found - expected) <= 1.5 * ulp, `2 ** ${values[i]}`);
    });
  });
}

Deno.test("a weight is 0 where it is not a normal number, at most 1, and NaN stays", () => {
  const values = [-127, -1e30, -Infinity, 0, 1e-7, 1e30, Infinity, NaN];
  const found = powersOf(Float32Array.from(values), true);
  assertEquals([...found], [0, 0, 0, 1, 1, 1, 1, NaN]);
});
