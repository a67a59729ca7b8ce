import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { check } from "../support/runs.ts";
import { ignore, openBackend } from "./adapter.ts";

Deno.test({
  name: "pieces are written where they belong in a tensor of several buffers",
  ignore,
  fn: async () => {
    const backend = await openBackend("software", undefined, {
      binding: 256,
      buffer: 256,
    });
    const sizes = fc.array(fc.integer({ min: 1, max: 90 }), {
      minLength: 1,
      maxLength: 6,
    });
    const property = fc.asyncProperty(sizes, async (sizes) => {
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const storage = backend.create({ shape: [total], dtype: "f32" });
      let at = 0;
      for (const size of sizes) {
        const piece = Float32Array.from({ length: size }, (_, i) => at + i);
        backend.write(storage, "f32", at, piece);
        at += size;
      }
      assertEquals(
        await backend.download(storage, "f32", total),
        Float32Array.from({ length: total }, (_, i) => i),
      );
      backend.free(storage);
    });
    await check(property, 20);
    backend.dispose();
  },
});
