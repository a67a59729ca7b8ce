import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import fc from "fast-check";
import { FormatError, init, memory } from "../../../core/mod.ts";
import {
  parseSafetensors,
  readSafetensors,
  type Safetensors,
} from "../../../nn/checkpoint/mod.ts";
import { isFull } from "../../support/runs.ts";
import { assertNoLeak, bytesOf, dispose, fileOf, inFolder } from "./support.ts";

await init({ backend: "reference" });

const valid = fileOf(
  {
    __metadata__: { format: "pt", 'quote"\\': "{[,:" },
    "model.a": { dtype: "F32", shape: [2, 1], data_offsets: [0, 8] },
    "model.b": { dtype: "I64", shape: [1], data_offsets: [8, 16] },
    "model.c": { dtype: "BF16", shape: [3], data_offsets: [16, 22] },
    "model.d": { dtype: "BOOL", shape: [2], data_offsets: [22, 24] },
    "model.e": { dtype: "F16", shape: [0], data_offsets: [24, 24] },
  },
  [...Array(8).fill(7), 5, ...Array(7).fill(0), 1, 2, 3, 4, 5, 6, 0, 1],
);

/** Texts that stand in headers where they should not: other dtypes, shapes, offsets, keys, numbers and signs. */
const texts = [
  ...'0123456789{}[]:,"\\-.e '.split(""),
  "null",
  "true",
  "1e999",
  "-1",
  "0.5",
  "9007199254740993",
  "18446744073709551616",
  "1e15",
  '"dtype"',
  '"F64"',
  '"U32"',
  '"F8_E5M2"',
  "[0,0]",
  "[8,0]",
  "[2147483648,2147483648]",
  "[1125899906842624,0]",
  '"a":{}',
  '"model.a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},',
  '"__proto__":{"dtype":"U8","shape":[],"data_offsets":[0,1]},',
  "[".repeat(300),
  "\u2028",
  "\ud800",
  "\\u0000",
  "é😀",
];

/** A change of some bytes of a file. */
const mutation = fc.record({
  kind: fc.constantFrom(
    "flip",
    "length",
    "truncate",
    "extend",
    "insert",
    "delete",
    "text",
    "text",
    "replace",
  ),
  at: fc.nat(valid.length - 1),
  byte: fc.nat(255),
  text: fc.constantFrom(...texts),
});

type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

function mutate(bytes: Uint8Array, m: Mutation): Uint8Array {
  const at = Math.min(m.at, bytes.length);
  const head = bytes.slice(0, at), tail = bytes.slice(at);
  switch (m.kind) {
    case "flip":
      return Uint8Array.of(...head, (tail[0] ?? 0) ^ 1 << m.byte % 8, ...tail)
        .slice(0, bytes.length);
    case "length": {
      const out = bytes.slice();
      const bit = m.byte % 64;
      if (out.length >= 8) out[bit >> 3]! ^= 1 << (bit & 7);
      return out;
    }
    case "truncate":
      return head;
    case "extend":
      return Uint8Array.of(...bytes, ...tail.slice(0, m.byte % 9));
    case "insert":
      return Uint8Array.of(...head, m.byte, ...tail);
    case "delete":
      return Uint8Array.of(...head, ...tail.slice(1));
    default:
      return rewrite(bytes, m);
  }
}

/** Some text in the header, whose length is set right, so that the fault lies deeper. */
function rewrite(bytes: Uint8Array, m: Mutation): Uint8Array {
  if (bytes.length < 8) return bytes;
  const size = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  if (size > bytes.length - 8) return bytes;
  const json = new TextDecoder().decode(bytes.slice(8, 8 + size));
  const data = bytes.slice(8 + size);
  if (m.kind === "replace") {
    // A whole value or key, in the place of another.
    const values = [...json.matchAll(/"(?:[^"\\]|\\.)*"|\[[^[\]]*\]|\d+/g)];
    const old = values[m.at % Math.max(1, values.length)];
    if (!old) return bytes;
    const after = json.slice(old.index + old[0].length);
    return fileOf(json.slice(0, old.index) + m.text + after, data);
  }
  const place = m.at % (json.length + 1);
  const after = json.slice(place + m.byte % 3);
  return fileOf(json.slice(0, place) + m.text + after, data);
}

/** What a header says of a tensor. */
interface RawEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Fails unless what was loaded is what a plain reading of the file gives. */
async function assertCorrect(
  bytes: Uint8Array,
  { tensors, metadata }: Safetensors,
): Promise<void> {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header: Record<string, unknown> = JSON.parse(
    new TextDecoder().decode(bytes.subarray(8, start)),
  );
  const { __metadata__ = {}, ...entries } = header;
  assertEquals(metadata, __metadata__);
  assertEquals(Object.keys(tensors).sort(), Object.keys(entries).sort());
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets } = entry as RawEntry;
    const found = tensors[name]!;
    assertEquals(found.shape, shape);
    const [begin, end] = [start + data_offsets[0], start + data_offsets[1]];
    if (["F32", "I32", "U32", "U8", "BOOL"].includes(dtype)) {
      assertEquals(await bytesOf(found), bytes.slice(begin, end));
      continue;
    }
    const read: Record<string, (at: number) => number> = {
      F64: (at) => Math.fround(view.getFloat64(at, true)),
      F16: (at) => view.getFloat16(at, true),
      BF16: (at) => {
        const word = new Uint32Array([view.getUint16(at, true) << 16]);
        return new Float32Array(word.buffer)[0]!;
      },
      I64: (at) => Number(view.getBigInt64(at, true)),
    };
    const data = await found.data();
    const size = data.length === 0 ? 0 : (end - begin) / data.length;
    assertEquals(
      [...data],
      Array.from(data, (_, i) => read[dtype]!(begin + i * size)),
    );
  }
}

/** Bytes that the engine holds for this thread. */
function held(): number {
  const { heapTotal, external } = Deno.memoryUsage();
  return heapTotal + external;
}

async function outcome(
  load: () => Safetensors | Promise<Safetensors>,
): Promise<Safetensors | string> {
  try {
    return await load();
  } catch (error) {
    assertInstanceOf(error, FormatError);
    return (error as Error).message;
  }
}

const RUNS = isFull ? 20_000 : 2_000;

Deno.test("a mutated file is loaded as it says or refused by a FormatError, from memory and from the disk, in little memory", async () => {
  const before = memory().tensors;
  let refused = 0;
  await inFolder(async (folder) => {
    const path = `${folder}/x.safetensors`;
    await fc.assert(
      fc.asyncProperty(
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        async (mutations) => {
          const bytes = mutations.reduce(mutate, valid);
          const start = held();
          const parsed = await outcome(() => parseSafetensors(bytes, path));
          assert(held() - start <= bytes.length + 2 ** 26, "much memory");
          await Deno.writeFile(path, bytes);
          const read = await outcome(() => readSafetensors(path));
          assert(held() - start <= bytes.length + 2 ** 26, "much memory");
          if (typeof parsed === "string" || typeof read === "string") {
            assertEquals(read, parsed);
            refused++;
            return;
          }
          await assertCorrect(bytes, parsed);
          await assertCorrect(bytes, read);
          dispose([parsed.tensors, read.tensors]);
        },
      ),
      { numRuns: RUNS, ...!isFull && { seed: 1 } },
    );
  });
  // Most mutations do harm; what is left changes data, names or spaces.
  assert(refused > RUNS / 2, `${refused} of ${RUNS} were refused`);
  assert(refused < RUNS, "nothing was loaded");
  assertNoLeak(before);
});
