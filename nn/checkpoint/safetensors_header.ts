/**
 * The header of a safetensors file: a JSON object that says what each tensor is and where its bytes are.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Shape } from "../../core/mod.ts";
import { fail, isRecord, parseObject, quote, shown } from "./json.ts";

/** A dtype of the format that Cotan reads. */
export type FileDType =
  | "I64"
  | "F64"
  | "F32"
  | "U32"
  | "I32"
  | "BF16"
  | "F16"
  | "U8"
  | "BOOL";

/** Bytes of an element by dtype, in the order in which the reference library writes dtypes. */
export const fileDTypes: Readonly<Record<FileDType, number>> = {
  I64: 8,
  F64: 8,
  F32: 4,
  U32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  U8: 1,
  BOOL: 1,
};

/** What a tensor of a file is. */
export interface Entry {
  /** Its name. */
  readonly name: string;
  /** Its dtype in the file. */
  readonly dtype: FileDType;
  /** Its sizes. */
  readonly shape: Shape;
  /** Number of its bytes. They follow those of the entry before it. */
  readonly bytes: number;
}

/** What a file holds, in the order of the data. */
export interface Header {
  /** The tensors. */
  readonly entries: readonly Entry[];
  /** Free text by name. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The bytes before the JSON text, which hold its length. */
export const PREFIX_BYTES = 8;

/** The reference library refuses longer headers too. */
const MAX_HEADER_BYTES = 100_000_000;

/** Number of bytes of the JSON text, from the first bytes of a file. */
export function headerLength(
  prefix: Uint8Array,
  fileBytes: number,
  file: string,
): number {
  if (fileBytes < PREFIX_BYTES) {
    fail(file, `it has ${fileBytes} bytes, and the header length alone has 8`);
  }
  const { buffer, byteOffset } = prefix;
  const length = new DataView(buffer, byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    fail(file, `its header has ${length} bytes, and at most 100 MB are read`);
  }
  const rest = fileBytes - PREFIX_BYTES;
  if (length > rest) {
    fail(file, `its header has ${length} bytes, and only ${rest} follow`);
  }
  return Number(length);
}

/** Reads and checks a header; `dataBytes` is what follows it. */
export function parseHeader(
  bytes: Uint8Array,
  dataBytes: number,
  file: string,
): Header {
  const json = parseObject(bytes, file, "its header");
  const { __metadata__: metadata = {}, ...tensors } = json;
  if (!isRecord(metadata) || !Object.values(metadata).every(isString)) {
    fail(file, "its __metadata__ does not map names to strings");
  }
  const placed = Object.entries(tensors).map(([name, info]) =>
    parseEntry(name, info, dataBytes, file)
  );
  placed.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0, before = "";
  for (const entry of placed) {
    const what = `tensor ${quote(entry.name)}`, { begin } = entry;
    if (begin > end) {
      fail(file, `bytes ${end} to ${begin}, before ${what}, are no tensor's`);
    }
    if (begin < end) {
      fail(
        file,
        `${what} starts at byte ${begin}, and ${before} ends at ${end}`,
      );
    }
    end = entry.end;
    before = what;
  }
  if (end !== dataBytes) {
    fail(file, `its tensors take ${end} of ${dataBytes} bytes of data`);
  }
  return { entries: placed, metadata: metadata as Record<string, string> };
}

function parseEntry(
  name: string,
  info: unknown,
  dataBytes: number,
  file: string,
): Entry & { readonly begin: number; readonly end: number } {
  const what = `tensor ${quote(name)}`;
  if (name === "__proto__") {
    fail(file, `${what} cannot be a key of a record`);
  }
  if (!isRecord(info)) fail(file, `${what} is described by no JSON object`);
  const { dtype, shape, data_offsets: offsets } = info;
  if (!isString(dtype) || !Object.hasOwn(fileDTypes, dtype)) {
    const known = Object.keys(fileDTypes).join(", ");
    fail(file, `${what} has dtype ${shown(dtype)}; read are ${known}`);
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    fail(
      file,
      `${what} has shape ${shown(shape)}; sizes are integers from 0`,
    );
  }
  let bytes: number = fileDTypes[dtype as FileDType];
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) {
      fail(file, `${what} of shape ${shown(shape)} is too large`);
    }
  }
  if (
    !Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) ||
    offsets[0]! > offsets[1]!
  ) {
    fail(
      file,
      `${what} has data_offsets ${
        shown(offsets)
      }; they are where its bytes begin and end`,
    );
  }
  const [begin, end] = offsets as [number, number];
  if (end > dataBytes) {
    fail(file, `${what} ends at byte ${end} of ${dataBytes} bytes of data`);
  }
  if (end - begin !== bytes) {
    fail(
      file,
      `${what} has ${end - begin} bytes, and ${dtype} of shape ${
        shown(shape)
      } takes ${bytes}`,
    );
  }
  return { name, dtype: dtype as FileDType, shape, bytes, begin, end };
}

/** The order in which the reference library writes tensors: wide dtypes first, then names by code point. */
export function compareEntries(
  a: Pick<Entry, "name" | "dtype">,
  b: Pick<Entry, "name" | "dtype">,
): number {
  const order = Object.keys(fileDTypes);
  return order.indexOf(a.dtype) - order.indexOf(b.dtype) ||
    compareText(a.name, b.name);
}

/** The first bytes of a file, data excluded: the length and the JSON text, padded to a multiple of 8 bytes. */
export function encodeHeader(
  { entries, metadata }: Header,
): Uint8Array<ArrayBuffer> {
  const json = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) json.set("__metadata__", metadata);
  let end = 0;
  for (const { name, dtype, shape, bytes } of entries) {
    const offsets = [end, end += bytes];
    json.set(name, { dtype, shape, data_offsets: offsets });
  }
  // Joined by hand, since a record would put names that look like integers first.
  const text = [...json].map(([name, value]) =>
    `${JSON.stringify(name)}:${JSON.stringify(value)}`
  ).join();
  const encoded = new TextEncoder().encode(`{${text}}`);
  const length = Math.ceil(encoded.length / 8) * 8;
  const out = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(encoded, PREFIX_BYTES);
  return out;
}

/** Order by code point, which is that of UTF-8 bytes; `<` compares UTF-16 units. */
function compareText(a: string, b: string): number {
  const x = [...a], y = [...b];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const difference = x[i]!.codePointAt(0)! - y[i]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return x.length - y.length;
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
