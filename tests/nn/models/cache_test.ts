import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { jit, type Shape, type Tensor, tensor } from "cotan";
import fc from "fast-check";
import { writeCache } from "../../../nn/models/cache.ts";
import { eachBackend } from "../../support/backends.ts";
import { check } from "../../support/runs.ts";
import { values } from "../support.ts";

/** What a cache holds after a write, slot by slot. */
function written(
  held: ArrayLike<number>,
  fresh: ArrayLike<number>,
  [B, K, S, D]: Shape,
  time: number,
  positions: readonly number[],
): number[] {
  return Array.from({ length: B! * K! * S! * D! }, (_, i) => {
    const channel = i % D!, slot = Math.floor(i / D!) % S!;
    const row = Math.floor(i / (D! * S!)); // Of B · K.
    const t = slot - positions[Math.floor(row / K!) % positions.length]!;
    return t >= 0 && t < time
      ? fresh[(row * time + t) * D! + channel]!
      : held[i]!;
  });
}

// Caches small and large, which are written in ways of their own.
const shapes: readonly Shape[] = [[2, 3, 5, 4], [2, 2, 16, 512]];

eachBackend(
  "a write fills the slots from the position on, whatever they held, and drops what falls outside",
  async () => {
    using write = jit(writeCache, { donate: [0] });
    const some = fc.record({
      shape: fc.constantFrom(...shapes),
      time: fc.constantFrom(1, 1, 3),
      positions: fc.array(fc.integer({ min: -1, max: 17 }), {
        minLength: 1,
        maxLength: 2,
      }),
    });
    await check(
      fc.asyncProperty(some, async ({ shape, time, positions }) => {
        const [B, K, , D] = shape as [number, number, number, number];
        const size = shape.reduce((n, d) => n * d, 1);
        const held = Float32Array.from(values(size), (v) => 1e6 * v);
        const fresh = Float32Array.from(values(B * K * time * D, 2));
        const at = tensor(Int32Array.from(positions), {
          shape: positions.length === B ? [B] : [],
        });
        using out = write(
          tensor(held, { shape }),
          tensor(fresh, { shape: [B, K, time, D] }),
          at,
        );
        const expected = written(held, fresh, shape, time, positions);
        assertEquals(Array.from(await out.data()), expected);
      }),
      12,
      // Before the first slot, and behind the last.
      [[-1], [16], [3, 16]].map((positions) => [{
        shape: shapes[1]!,
        time: 1,
        positions,
      }]),
    );
  },
);

eachBackend(
  "one slot of a large donated cache is written in place, without a walk over the others",
  () => {
    const shape = [1, 4, 256, 64];
    using write = jit(
      (held: Tensor, fresh: Tensor, position: Tensor) =>
        writeCache(held, fresh, position),
      { donate: [0] },
    );
    const program = write.program(
      tensor(values(4 * 256 * 64), { shape }),
      tensor(values(4 * 64), { shape: [1, 4, 1, 64] }),
      tensor(3, { dtype: "i32" }),
    );
    assertStringIncludes(String(program), "1 outputs of which 1 in place");
    for (const { shape } of program.kernels) {
      const points = shape.reduce((n, d) => n * d, 1);
      assert(points <= 2 * 4 * 64, String(program));
    }
  },
);
