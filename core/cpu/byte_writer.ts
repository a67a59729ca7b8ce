/**
 * Bytes as WebAssembly's binary format writes them.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** A byte string that grows at its end. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(128);
  #length = 0;

  /** What has been written. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Appends one byte. */
  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  /** Appends bytes. */
  append(bytes: ArrayLike<number>): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Appends an unsigned 32-bit integer as LEB128. */
  unsigned(value: number): void {
    for (value >>>= 0; value >= 0x80; value >>>= 7) this.byte(value | 0x80);
    this.byte(value);
  }

  /** Appends a signed 32-bit integer as LEB128. */
  signed(value: number): void {
    for (value |= 0; value < -64 || value > 63; value >>= 7) {
      this.byte(value & 0x7f | 0x80);
    }
    this.byte(value & 0x7f);
  }

  /** Appends bytes after their number. */
  sized(bytes: Uint8Array): void {
    this.unsigned(bytes.length);
    this.append(bytes);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + count));
    grown.set(this.bytes);
    this.#bytes = grown;
  }
}
