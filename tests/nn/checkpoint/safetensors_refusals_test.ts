import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FormatError, init, memory } from "../../../core/mod.ts";
import {
  loadSafetensors,
  parseSafetensors,
} from "../../../nn/checkpoint/mod.ts";
import { assertNoLeak, fileOf, inFolder, oneTensor } from "./support.ts";

await init({ backend: "reference" });

function withLength(length: bigint): Uint8Array {
  const bytes = fileOf("{}");
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
}

const known = "I64, F64, F32, U32, I32, BF16, F16, U8, BOOL";
const refusals: [fault: string, bytes: Uint8Array][] = [
  ["it has 3 bytes, and the header length alone has 8", new Uint8Array(3)],
  ["its header has 3 bytes, and only 2 follow", withLength(3n)],
  [
    "its header has 100000001 bytes, and at most 100 MB are read",
    withLength(100_000_001n),
  ],
  [
    "its header has 18446744073709551615 bytes, and at most 100 MB are read",
    withLength(2n ** 64n - 1n),
  ],
  ["its header is not UTF-8", fileOf("{}").fill(0xff, 8)],
  ["its header is not JSON", fileOf("{")],
  ["its header is not JSON", fileOf("\ufeff{}")],
  ["its header is no JSON object", fileOf("[]")],
  ["its header is no JSON object", fileOf("null")],
  [
    'its header has the key "a" twice',
    fileOf('{"a":{"dtype":"F32"},"\\u0061":1}'),
  ],
  [
    'its header has the key "shape" twice',
    fileOf('{"a":{"shape":[],"dtype":["x",{"shape":1}],"shape":[]}}'),
  ],
  [
    "its __metadata__ does not map names to strings",
    fileOf({ __metadata__: { a: 1 } }),
  ],
  [
    "its __metadata__ does not map names to strings",
    fileOf({ __metadata__: null }),
  ],
  ['tensor "a" is described by no JSON object', fileOf({ a: [1] })],
  [
    'tensor "__proto__" cannot be a key of a record',
    fileOf('{"__proto__":{}}'),
  ],
  [
    `tensor "a" has dtype "F8_E4M3"; read are ${known}`,
    fileOf(oneTensor("F8_E4M3", [1], [0, 1]), [0]),
  ],
  [
    `tensor "a" has dtype "toString"; read are ${known}`,
    fileOf(oneTensor("toString", [], [0, 0])),
  ],
  [
    `tensor "a" has dtype undefined; read are ${known}`,
    fileOf({ a: {} }),
  ],
  [
    'tensor "a" has shape [-1]; sizes are integers from 0',
    fileOf(oneTensor("F32", [-1], [0, 0])),
  ],
  [
    'tensor "a" has shape [1.5]; sizes are integers from 0',
    fileOf(oneTensor("F32", [1.5], [0, 0])),
  ],
  [
    'tensor "a" has shape "2"; sizes are integers from 0',
    fileOf(oneTensor("F32", "2", [0, 0])),
  ],
  [
    `tensor "a" has shape ${"[".repeat(200)}…; sizes are integers from 0`,
    fileOf(
      `{"a":{"dtype":"F32","shape":${"[".repeat(1e6)}${"]".repeat(1e6)}}}`,
    ),
  ],
  [
    'tensor "a" of shape [4294967296,4294967296,0] is too large',
    fileOf(oneTensor("F32", [2 ** 32, 2 ** 32, 0], [0, 0])),
  ],
  [
    'tensor "a" has data_offsets [4,0]; they are where its bytes begin and end',
    fileOf(oneTensor("F32", [1], [4, 0])),
  ],
  [
    'tensor "a" has data_offsets [0]; they are where its bytes begin and end',
    fileOf(oneTensor("F32", [1], [0])),
  ],
  [
    'tensor "a" has data_offsets [-4,0]; they are where its bytes begin and end',
    fileOf(oneTensor("F32", [1], [-4, 0])),
  ],
  [
    'tensor "a" ends at byte 8 of 4 bytes of data',
    fileOf(oneTensor("F32", [2], [0, 8]), [0, 0, 0, 0]),
  ],
  [
    'tensor "a" has 4 bytes, and F32 of shape [2] takes 8',
    fileOf(oneTensor("F32", [2], [0, 4]), [0, 0, 0, 0]),
  ],
  [
    'bytes 0 to 1, before tensor "a", are no tensor\'s',
    fileOf(oneTensor("U8", [1], [1, 2]), [0, 0]),
  ],
  [
    'tensor "b" starts at byte 1, and tensor "a" ends at 2',
    fileOf({
      b: { dtype: "U8", shape: [2], data_offsets: [1, 3] },
      a: { dtype: "U8", shape: [2], data_offsets: [0, 2] },
    }, [0, 0, 0]),
  ],
  [
    'bytes 2 to 3, before tensor "b", are no tensor\'s',
    fileOf({
      a: { dtype: "U8", shape: [2], data_offsets: [0, 2] },
      b: { dtype: "U8", shape: [1], data_offsets: [3, 4] },
    }, [0, 0, 0, 0]),
  ],
  [
    "its tensors take 1 of 3 bytes of data",
    fileOf(oneTensor("U8", [1], [0, 1]), [0, 0, 0]),
  ],
  [
    'tensor "a" of dtype U8 has 7 at element 1; it is read as bool, from 0 and 1',
    fileOf(oneTensor("U8", [2], [0, 2]), [1, 7]),
  ],
  [
    'tensor "a" of dtype I64 has -4294967295 at element 0; it is read as i32, and that does not fit',
    fileOf(oneTensor("I64", [1], [0, 8]), [1, 0, 0, 0, 255, 255, 255, 255]),
  ],
  [
    'tensor "a" of dtype I64 has 2147483648 at element 0; it is read as i32, and that does not fit',
    fileOf(oneTensor("I64", [1], [0, 8]), [0, 0, 0, 128, 0, 0, 0, 0]),
  ],
];

Deno.test("each fault is refused in its own words, from memory and from a file", async (t) => {
  const before = memory().tensors;
  for (const [fault, bytes] of refusals) {
    await t.step(fault, async () => {
      const error = assertThrows(
        () => parseSafetensors(bytes, "x.safetensors"),
        FormatError,
      );
      assertEquals(error.message, `Cannot read x.safetensors: ${fault}`);
      await inFolder(async (folder) => {
        const path = `${folder}/x.safetensors`;
        await Deno.writeFile(path, bytes);
        const again = await assertRejects(
          () => loadSafetensors(path),
          FormatError,
        );
        assertEquals(again.message, `Cannot read ${path}: ${fault}`);
      });
    });
  }
  assertNoLeak(before);
});

Deno.test("a file that is missing, or a folder, is refused", async () => {
  await inFolder(async (folder) => {
    await assertRejects(
      () => loadSafetensors(`${folder}/none.safetensors`),
      FormatError,
      `Cannot read ${folder}/none.safetensors: there is no such file`,
    );
    await assertRejects(
      () => loadSafetensors(folder),
      FormatError,
      `Cannot read ${folder}: it is no file`,
    );
  });
});

Deno.test("files with an empty tensor, no tensor, or tensors in another order are fine", async () => {
  assertEquals(parseSafetensors(fileOf("{}"), "x").tensors, {});
  assertEquals(parseSafetensors(fileOf("{}   "), "x").metadata, {});
  const { tensors } = parseSafetensors(
    fileOf({
      z: { dtype: "U8", shape: [1], data_offsets: [1, 2] },
      empty: { dtype: "F32", shape: [0, 5], data_offsets: [1, 1] },
      a: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
    }, [0, 1]),
    "x",
  );
  assertEquals(Object.keys(tensors), ["a", "empty", "z"]);
  assertEquals(await tensors.z!.item(), 1);
});
