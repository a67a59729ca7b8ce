/**
 * A writer of small GGUF files of version 3, by the published specification: magic, version, counts, settings, tensor
 * descriptions, then the tensors, each at a multiple of 32 bytes.
 *
 * @module
 */

/** A tensor to be written: its values, outermost axis first. */
export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Number of the type: 0 F32, 1 F16, 8 Q8_0, 30 BF16. */
  readonly type: number;
  readonly values: ArrayLike<number>;
}

const ALIGNMENT = 32;

/** The bytes of a file. Settings that are whole numbers are written as u32, others as f32, texts as strings. */
export function encodeGguf(
  settings: Readonly<Record<string, number | string>>,
  tensors: readonly GgufTensor[],
): Uint8Array<ArrayBuffer> {
  const head: number[] = [];
  const number = (
    bytes: number,
    set: (view: DataView) => void,
  ): void => {
    const view = new DataView(new ArrayBuffer(bytes));
    set(view);
    head.push(...new Uint8Array(view.buffer));
  };
  const u32 = (x: number): void => number(4, (v) => v.setUint32(0, x, true));
  const u64 = (x: number): void =>
    number(8, (v) => v.setBigUint64(0, BigInt(x), true));
  const text = (x: string): void => {
    const bytes = new TextEncoder().encode(x);
    u64(bytes.length);
    head.push(...bytes);
  };
  head.push(...new TextEncoder().encode("GGUF"));
  u32(3);
  u64(tensors.length);
  u64(Object.keys(settings).length);
  for (const [key, value] of Object.entries(settings)) {
    text(key);
    if (typeof value === "string") {
      u32(8);
      text(value);
    } else if (Number.isInteger(value)) {
      u32(4);
      u32(value);
    } else {
      u32(6);
      number(4, (v) => v.setFloat32(0, value, true));
    }
  }
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const { name, shape, type, values } of tensors) {
    text(name);
    u32(shape.length);
    shape.toReversed().forEach(u64);
    u32(type);
    u64(offset);
    const bytes = padded(encode(type, values));
    data.push(bytes);
    offset += bytes.length;
  }
  const parts = [padded(Uint8Array.from(head)), ...data];
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function padded(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT);
  out.set(bytes);
  return out;
}

function encode(type: number, values: ArrayLike<number>): Uint8Array {
  const floats = Float32Array.from(values);
  switch (type) {
    case 0:
      return new Uint8Array(floats.buffer);
    case 1:
      return new Uint8Array(new Float16Array(floats).buffer);
    case 8:
      return encodeQ8(floats);
    case 30: {
      const halves = new Uint16Array(floats.buffer).filter((_, i) => i % 2);
      return new Uint8Array(halves.buffer);
    }
    default:
      return new Uint8Array(4 * floats.length);
  }
}

/** Blocks of 32: a scale that takes the largest to 127, as a half, and the rounded quotients. */
function encodeQ8(values: Float32Array): Uint8Array {
  const blocks = values.length / 32;
  const out = new DataView(new ArrayBuffer(34 * blocks));
  for (let block = 0; block < blocks; block++) {
    const own = values.subarray(32 * block, 32 * block + 32);
    const scale = Math.max(...own.map(Math.abs)) / 127;
    out.setFloat16(34 * block, scale, true);
    own.forEach((x, i) =>
      out.setInt8(34 * block + 2 + i, scale === 0 ? 0 : Math.round(x / scale))
    );
  }
  return new Uint8Array(out.buffer);
}
