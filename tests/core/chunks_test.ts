import { assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import {
  type Data,
  type DType,
  fromChunks,
  memory,
  ShapeError,
  tensor,
} from "cotan";
import { eachBackend } from "../support/backends.ts";
import { check } from "../support/runs.ts";

const arrays = {
  f32: Float32Array,
  f16: Uint16Array,
  bf16: Uint16Array,
  i32: Int32Array,
  u32: Uint32Array,
  bool: Uint8Array,
};

eachBackend(
  "pieces of any sizes make the tensor that the whole makes",
  () =>
    check(
      fc.asyncProperty(
        fc.constantFrom<DType>("f32", "f16", "bf16", "i32", "u32", "bool"),
        fc.array(fc.nat(40), { maxLength: 6 }),
        async (dtype, sizes) => {
          const total = sizes.reduce((a, b) => a + b, 0);
          const whole = new arrays[dtype](total)
            .map((_, i) => dtype === "bool" ? i % 3 & 1 : i * 7);
          // One buffer, which is overwritten for each piece.
          const buffer = new arrays[dtype](41);
          function* pieces(): Generator<Data> {
            let at = 0;
            for (const size of sizes) {
              buffer.set(whole.subarray(at, at += size));
              yield buffer.subarray(0, size);
            }
          }
          const options = { shape: [total], dtype };
          using found = await fromChunks(pieces(), options);
          using expected = tensor(whole, options);
          assertEquals(await found.data(), await expected.data());
        },
      ),
      20,
    ),
);

eachBackend(
  "a tensor of pieces computes, also after many and large ones",
  async () => {
    const buffer = new Float32Array(2 ** 20);
    async function* pieces(): AsyncGenerator<Data> {
      for (let i = 0; i < 6; i++) {
        await Promise.resolve();
        // Memory that grows meanwhile moves what was written.
        tensor(buffer).dispose();
        yield buffer.fill(i);
      }
    }
    using x = await fromChunks(pieces(), { shape: [6, 2 ** 20] });
    using mean = x.mean({ axis: 1 });
    assertEquals(await mean.toArray(), [0, 1, 2, 3, 4, 5]);
  },
);

eachBackend(
  "too many elements, too few, and a source that throws free the memory",
  async () => {
    const before = memory().liveBytes;
    const pieces = [Float32Array.of(1, 2), Float32Array.of(3)];
    const refusal = async (shape: number[]): Promise<string> =>
      (await assertRejects(() => fromChunks(pieces, { shape }), ShapeError))
        .message;
    assertEquals(
      await refusal([2]),
      "Cannot make f32[2] from chunks: they have 3 elements, and it takes 2",
    );
    assertEquals(
      await refusal([2, 2]),
      "Cannot make f32[2, 2] from chunks: they have 3 elements, and it takes 4",
    );
    function* broken(): Generator<Data> {
      yield pieces[0]!;
      throw new Error("cut");
    }
    await assertRejects(
      () => fromChunks(broken(), { shape: [3] }),
      Error,
      "cut",
    );
    assertEquals(memory().liveBytes, before);
  },
);
