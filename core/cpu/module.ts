/**
 * WebAssembly modules of functions over one imported memory.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type AddressBits,
  type FunctionCode,
  IMPORTED,
  SGEMM_KINDS,
  typesOf,
} from "./assembler.ts";
import { ByteWriter } from "./byte_writer.ts";

/** Most pages of 64 KiB that a memory has, by the bits of its addresses. */
const MOST_PAGES = { 32: 2 ** 16, 64: 2 ** 18 };

/**
 * A module that imports its memory as `env.memory`, shared with workers or not, and `env.sgemm`, and exports the last
 * function as `run`.
 */
export function encodeModule(
  functions: readonly FunctionCode[],
  isShared = false,
  bits: AddressBits = 32,
): Uint8Array<ArrayBuffer> {
  const sgemm = typesOf(SGEMM_KINDS, bits);
  const signatures = new Map(
    [sgemm, ...functions.map((f) => f.params)].map((p) => [p.join(), p]),
  );
  const keys = [...signatures.keys()];
  const out = new ByteWriter();
  out.append([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  const section = (id: number, write: (to: ByteWriter) => void) => {
    const content = new ByteWriter();
    write(content);
    out.byte(id);
    out.sized(content.bytes);
  };
  section(1, (types) => {
    types.unsigned(signatures.size);
    for (const params of signatures.values()) {
      types.byte(0x60);
      types.sized(Uint8Array.from(params));
      types.byte(0);
    }
  });
  section(2, (imports) => {
    imports.byte(1 + IMPORTED);
    imports.sized(utf8("env"));
    imports.sized(utf8("memory"));
    // At least a page, as it has: what is known to lie in it is not compared with the size at each access.
    imports.append([2, (isShared ? 3 : 0) + (bits === 64 ? 4 : 0), 1]);
    if (isShared) imports.unsigned(MOST_PAGES[bits]);
    imports.sized(utf8("env"));
    imports.sized(utf8("sgemm"));
    imports.append([0, keys.indexOf(sgemm.join())]);
  });
  section(3, (indices) => {
    indices.unsigned(functions.length);
    for (const { params } of functions) {
      indices.unsigned(keys.indexOf(params.join()));
    }
  });
  section(7, (exports) => {
    exports.byte(1);
    exports.sized(utf8("run"));
    exports.byte(0);
    exports.unsigned(IMPORTED + functions.length - 1);
  });
  section(10, (code) => {
    code.unsigned(functions.length);
    for (const f of functions) code.sized(f.body);
  });
  return out.bytes;
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
