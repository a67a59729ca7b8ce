import { assertEquals, assertThrows } from "@std/assert";
import { jit, tensor, unpack, vmap } from "cotan";
import { eachBackend, inFloat64 } from "../support/backends.ts";

const levels = Array.from({ length: 16 }, (_, i) => Math.fround(0.1 * i - 0.7));

eachBackend("words fall into bytes, or groups of four bits", async () => {
  const words = tensor([[0xfedcba98, 0x00ff8001], [0, 0xffffffff]], {
    dtype: "u32",
  });
  const bytes = [[0x98, 0xba, 0xdc, 0xfe, 1, 0x80, 0xff, 0], [
    ...[0, 0, 0, 0],
    ...[255, 255, 255, 255],
  ]];
  assertEquals(await unpack(words).toArray(), bytes);
  const fours = bytes.map((row) => row.flatMap((x) => [x % 16, x >> 4]));
  const expected = fours.map((row) => row.map((i) => levels[i]!));
  assertEquals(await unpack(words, levels).toArray(), expected);
  using rows = jit(vmap((row: typeof words) => unpack(row, levels)));
  assertEquals(await rows(words).toArray(), expected);
  // Words that do not lie one after another are brought together.
  using columns = jit((x: typeof words) => unpack(x.transpose()).sum());
  const sum = bytes.flat().reduce((a, b) => a + b);
  assertEquals(await columns(words).item(), sum);
});

inFloat64("what cannot be unpacked is refused", () => {
  const words = tensor([1, 2], { dtype: "u32" });
  const cases: [() => unknown, string][] = [
    [
      () => unpack(tensor([1, 2])),
      "Cannot unpack f32[2]: it must be u32; use cast",
    ],
    [
      () => unpack(words, [1, 2]),
      "Cannot unpack u32[2]: four bits tell 16 levels apart, not 2",
    ],
    [
      () => unpack(tensor(1, { dtype: "u32" })),
      "Cannot unpack u32[]: it needs a last axis; use reshape([1])",
    ],
  ];
  for (const [call, message] of cases) {
    assertEquals(assertThrows(call, Error).message, message);
  }
});
