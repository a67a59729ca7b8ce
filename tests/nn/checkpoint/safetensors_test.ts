import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import {
  DTypeError,
  init,
  memory,
  tensor,
  TreeError,
  zeros,
} from "../../../core/mod.ts";
import {
  encodeSafetensors,
  inspectSafetensors,
  loadSafetensors,
  parseSafetensors,
  readSafetensors,
  saveSafetensors,
} from "../../../nn/checkpoint/mod.ts";
import {
  assertNoLeak,
  bytesOf,
  dispose,
  fileOf,
  inFolder,
  isAbsent,
  namesIn,
  oneTensor,
  shared,
} from "./support.ts";

/** A tensor of any bits, with its name. */
const anyTensor = fc.record({
  name: fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter(
    (name) => !["__proto__", "__metadata__"].includes(name),
  ),
  dtype: fc.constantFrom("f32", "i32", "u32", "bool"),
  shape: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 4 }),
  // NaNs with payloads, infinities, denormals and zeros of either sign are as likely as all others together.
  words: fc.array(
    fc.oneof(
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      fc.constantFrom(
        0x7fc00001,
        0xff812345,
        0x7f800001,
        0x7f800000,
        0x80000000,
        1,
      ),
    ),
    { minLength: 81, maxLength: 81 },
  ),
});

function make(
  { dtype, shape, words }: {
    dtype: "f32" | "i32" | "u32" | "bool";
    shape: number[];
    words: number[];
  },
) {
  const size = shape.reduce((a, b) => a * b, 1);
  const bits = Uint32Array.from(words.slice(0, size));
  const data = {
    f32: new Float32Array(bits.buffer),
    i32: new Int32Array(bits.buffer),
    u32: bits,
    bool: Uint8Array.from(bits, (x) => x & 1),
  }[dtype];
  return tensor(data, { shape, dtype });
}

for (const backend of ["wasm", "reference"] as const) {
  Deno.test(`on ${backend} what is encoded comes back bit for bit, whatever the dtypes, shapes and names`, async () => {
    await init({ backend });
    await fc.assert(fc.asyncProperty(
      fc.uniqueArray(anyTensor, { selector: ({ name }) => name, maxLength: 5 }),
      fc.dictionary(
        fc.string({ maxLength: 8 }).filter((key) => key !== "__proto__"),
        fc.string({ unit: "grapheme" }),
        { noNullPrototype: true },
      ),
      async (entries, metadata) => {
        const record = Object.fromEntries(
          entries.map((entry) => [entry.name, make(entry)]),
        );
        const bytes = await encodeSafetensors(record, { metadata });
        const again = parseSafetensors(bytes, "memory");
        assertEquals(again.metadata, metadata);
        assertEquals(
          Object.keys(again.tensors).sort(),
          Object.keys(record).sort(),
        );
        for (const [name, expected] of Object.entries(record)) {
          const found = again.tensors[name]!;
          assertEquals(String(found), String(expected));
          assertEquals(await bytesOf(found), await bytesOf(expected));
        }
        dispose([record, again.tensors]);
      },
    ));
  });
}

for (const backend of ["wasm", "reference"] as const) {
  Deno.test(`halves are saved on ${backend} with the bytes that they have`, async () => {
    await init({ backend });
    const bits = Uint16Array.of(0x3c00, 0x7e01, 0xffff, 1, 0x8000);
    for (const [dtype, saved] of [["f16", "F16"], ["bf16", "BF16"]] as const) {
      using a = tensor(bits, { dtype });
      const bytes = await encodeSafetensors({ a });
      assertStringIncludes(new TextDecoder().decode(bytes), `"${saved}"`);
      assertEquals(bytes.slice(-10), new Uint8Array(bits.buffer));
    }
  });
}

Deno.test("a tree is saved under its paths, holes are left out", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    const layers = [{ weight: tensor([[1, 2]]), bias: null }];
    const tree = { layers, ids: tensor(Int32Array.of(7, -8)) };
    await saveSafetensors(path, tree, { metadata: { format: "pt" } });
    const { tensors, metadata } = await readSafetensors(path);
    assertEquals(Object.keys(tensors).sort(), ["ids", "layers.0.weight"]);
    assertEquals(await tensors["layers.0.weight"]!.toArray(), [[1, 2]]);
    assertEquals(await tensors.ids!.toArray(), [7, -8]);
    assertEquals(metadata, { format: "pt" });
    assertEquals(await inspectSafetensors(new URL(`file://${path}`)), {
      "layers.0.weight": { dtype: "F32", shape: [1, 2] },
      ids: { dtype: "I32", shape: [2] },
    });
  });
});

Deno.test("two tensors of one path, and the name of the metadata, are refused", async () => {
  const x = zeros([1]);
  await assertRejects(
    () => encodeSafetensors({ a: { b: x }, "a.b": x }),
    TreeError,
    "Cannot save the tensor a.b: two have this path",
  );
  await assertRejects(
    () => encodeSafetensors({ __metadata__: x }),
    TreeError,
    "Cannot save the tensor __metadata__: the format keeps this name",
  );
});

Deno.test("tensors stand by dtype as the reference library orders them, then by code point", async () => {
  const bytes = await encodeSafetensors({
    b: zeros([1], { dtype: "bool" }),
    i: zeros([1], { dtype: "i32" }),
    u: zeros([1], { dtype: "u32" }),
    "😀": zeros([1]),
    "ﬀ": zeros([1]),
    "10": zeros([1]),
    "9": zeros([1]),
  });
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  assertEquals(
    [...header.matchAll(/"([^"]+)":\{/g)].map(([_, name]) => name),
    ["10", "9", "ﬀ", "😀", "u", "i", "b"],
  );
  assertEquals(length % 8, 0);
  assertEquals(header.slice(0, 3), '{"1');
});

Deno.test("f16 and bf16 are widened exactly, f64 is rounded, integers and bytes keep their values", async () => {
  const cases: [string, number, ArrayBufferView, number[]][] = [
    [
      "F16",
      2,
      Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x83ff, 0x7c00, 0xfc00, 0x8000),
      [1, -2, 2 ** -24, -1023 * 2 ** -24, Infinity, -Infinity, -0],
    ],
    ["BF16", 2, Uint16Array.of(0x3f80, 0xc049, 0x0001), [
      1,
      -3.140625,
      2 ** -133,
    ]],
    ["F64", 8, Float64Array.of(0.1, 1e300), [Math.fround(0.1), Infinity]],
    ["I64", 8, BigInt64Array.of(-1n, 2147483647n, -2147483648n), [
      -1,
      2147483647,
      -2147483648,
    ]],
    ["U8", 1, Uint8Array.of(0, 1), [0, 1]],
    ["BOOL", 1, Uint8Array.of(1, 0), [1, 0]],
  ];
  for (const [dtype, size, view, expected] of cases) {
    const bytes = new Uint8Array(view.buffer);
    const shape = [bytes.length / size];
    const header = oneTensor(dtype, shape, [0, bytes.length]);
    const { tensors } = parseSafetensors(fileOf(header, bytes), dtype);
    assertEquals([...await tensors.a!.data()], expected);
  }
});

Deno.test("every float16 is widened as the engine's own conversion does", async () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const header = oneTensor("F16", [65536], [0, 131072]);
  const bytes = fileOf(header, new Uint8Array(halves.buffer));
  const found = await parseSafetensors(bytes, "f16").tensors.a!.data();
  const view = new DataView(halves.buffer);
  assertEquals(
    [...found],
    Array.from(halves, (_, i) => view.getFloat16(2 * i, true)),
  );
});

/** The double nearest to x of those with some bits, ties to the even one; a definition, not an algorithm. */
function nearest(x: number, candidates: readonly number[]): number {
  const finite = candidates.filter((c) => !Number.isNaN(c));
  const distance = (i: number): number => Math.abs(finite[i]! - x);
  let best = 0;
  for (let i = 1; i < finite.length; i++) {
    const isCloser = distance(i) < distance(best);
    if (isCloser || distance(i) === distance(best) && i % 2 === 0) best = i;
  }
  return finite[best]!;
}

Deno.test("halves are rounded to nearest, ties to even, and come back as they are", async () => {
  const word = new DataView(new ArrayBuffer(4));
  const asF32 = (bits: number): number => {
    word.setUint32(0, bits);
    return word.getFloat32(0);
  };
  const asF16 = (bits: number): number => {
    word.setUint16(0, bits);
    return word.getFloat16(0);
  };
  const save = async (x: number, dtype: "f16" | "bf16"): Promise<number> => {
    const bytes = await encodeSafetensors({ x: tensor([x]) }, { dtype });
    return await parseSafetensors(bytes, "x").tensors.x!.item();
  };
  // Ties, and a bit beside them, for mantissas that are even and odd.
  for (const bits of [0x3f800000, 0x3f810000, 0xbf7f0000, 0x00010000]) {
    for (const low of [0, 0x7fff, 0x8000, 0x8001, 0xffff]) {
      const x = asF32((bits + low) >>> 0);
      const [down, up] = [asF32(bits), asF32(bits + 0x10000 >>> 0)];
      const isOdd = (bits >>> 16 & 1) === 1;
      const expected = nearest(x, isOdd ? [up, down] : [down, up]);
      assertEquals(await save(x, "bf16"), expected);
    }
  }
  for (const half of [0x3c00, 0x3c01, 0x0001, 0x0000, 0x7bfe, 0x83ff]) {
    const [low, high] = [asF16(half), asF16(half + 1)];
    const middle = (low + high) / 2;
    const even = half % 2 === 0 ? low : high;
    assertEquals(await save(middle, "f16"), even);
    for (const side of [low, high]) {
      assertEquals(await save((middle * 7 + side) / 8, "f16"), side);
    }
  }
  for (const dtype of ["f16", "bf16"] as const) {
    for (const x of [NaN, Infinity, -Infinity, -0]) {
      assertEquals(await save(x, dtype), x);
    }
  }
  // A NaN whose payload lies in the lower half alone.
  assertEquals(await save(asF32(0x7f800001), "bf16"), NaN);
  assertEquals(await save(asF32(0x7fffffff), "bf16"), NaN);
  assertEquals(await save(65520, "f16"), Infinity);
  assertEquals(await save(3.4e38, "bf16"), Infinity);
  await assertRejects(
    () => encodeSafetensors({ x: tensor([1]) }, { dtype: "f8" as "f16" }),
    DTypeError,
    "Cannot save floats as f8: there are f32, f16 and bf16",
  );
});

Deno.test("data that starts at an odd byte is read", async () => {
  const bytes = fileOf(
    oneTensor("F32", [1], [0, 4]),
    new Uint8Array(Float32Array.of(1.5).buffer),
  );
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  for (const view of [bytes, shifted.subarray(1)]) {
    assertEquals(await parseSafetensors(view, "x").tensors.a!.item(), 1.5);
  }
});

Deno.test("a save that fails leaves the old file and nothing else", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    await saveSafetensors(path, { a: tensor([1]) });
    const gone = tensor([2]);
    gone.dispose();
    await assertRejects(
      () => saveSafetensors(path, { a: tensor([3]), b: gone }),
      ReferenceError,
    );
    assertEquals(namesIn(folder), ["a.safetensors"]);
    assertEquals(await (await loadSafetensors(path)).a!.toArray(), [1]);
    await assertRejects(
      () => saveSafetensors(`${folder}/none/a.safetensors`, {}),
      Deno.errors.NotFound,
    );
  });
});

Deno.test({
  name: "without permission the error says which one is missing",
  permissions: { read: false, write: false },
  fn: async () => {
    const error = await assertRejects(() =>
      loadSafetensors("/tmp/a.safetensors")
    ) as Error;
    assertStringIncludes(error.message, "read access");
    const other = await assertRejects(() =>
      saveSafetensors("/tmp/a.safetensors", {})
    ) as Error;
    assertStringIncludes(other.message, "write access");
  },
});

Deno.test("a file that is refused at its last tensor frees those before", async () => {
  const before = memory().tensors;
  const header = {
    a: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
    b: { dtype: "BOOL", shape: [1], data_offsets: [8, 9] },
  };
  const good = parseSafetensors(fileOf(header, [...Array(8), 1]), "x");
  assertNoLeak(before + 2);
  dispose(good.tensors);
  await assertRejects(async () => {
    await Promise.resolve();
    parseSafetensors(fileOf(header, [...Array(8), 2]), "x");
  });
  assertNoLeak(before);
});

const adapter = "data/adapters/gpt2-tigrinya-lora/adapter_model.safetensors";
Deno.test({
  name: "a file of the reference library is written again byte for byte",
  ignore: isAbsent(adapter),
  fn: async () => {
    const { tensors, metadata } = await readSafetensors(shared(adapter));
    assertEquals(Object.keys(tensors).length, 72);
    const bytes = await encodeSafetensors(tensors, { metadata });
    assertEquals(bytes, await Deno.readFile(shared(adapter)));
    dispose(tensors);
  },
});

Deno.test({
  name: "golden files are read, whole and by headers alone",
  ignore: isAbsent("golden"),
  fn: async () => {
    const path = shared("golden/ops/where.safetensors");
    const tensors = await loadSafetensors(path);
    const infos = await inspectSafetensors(path);
    assertEquals(Object.keys(tensors), Object.keys(infos));
    for (const [name, { shape, dtype }] of Object.entries(infos)) {
      assertEquals(tensors[name]!.shape, shape);
      assertEquals(tensors[name]!.dtype, dtype === "U8" ? "bool" : "f32");
    }
    dispose(tensors);
  },
});
