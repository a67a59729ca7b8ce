/**
 * How long the addresses of a memory are: 32 bits, which are faster, or 64 bits, which reach further.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ADDRESSABLE, formatBytes } from "../budget.ts";
import { DeviceError } from "../errors.ts";
import type { AddressBits } from "./assembler.ts";

/** Most bytes of a memory, by the bits of its addresses; engines agree on the second (WebAssembly JavaScript API). */
export const MOST_BYTES: { readonly [W in AddressBits]: number } = {
  32: ADDRESSABLE,
  64: 2 ** 34,
};

/** The bits of an address that a budget needs; throws where the engine has none so long. */
export function bitsFor(bytes: number): AddressBits {
  if (bytes <= 2 ** 32) return 32;
  const refused = `Cannot take ${formatBytes(bytes)} of memory`;
  if (!hasWideMemory()) {
    throw new DeviceError(
      `${refused}: it takes 64-bit addresses, which the WebAssembly of this engine lacks; without them a budget is at most 4 GiB`,
    );
  }
  if (bytes > MOST_BYTES[64]) {
    throw new DeviceError(
      `${refused}: a WebAssembly memory has at most ${
        formatBytes(MOST_BYTES[64])
      }`,
    );
  }
  return 64;
}

/** A memory of a page that grows to `most` pages. */
export function createMemory(
  most: number,
  isShared: boolean,
  bits: AddressBits,
): WebAssembly.Memory {
  return new WebAssembly.Memory({
    ...bits === 64 && { address: "i64" },
    initial: pageCount(1, bits),
    maximum: pageCount(most, bits),
    shared: isShared,
  });
}

/** A number of pages as a memory takes it. */
export function pageCount(count: number, bits: AddressBits): number {
  // Bigints where addresses have 64 bits, of which the platform's types do not know yet.
  return bits === 64 ? BigInt(count) as unknown as number : count;
}

/** Whether the engine has memories with 64-bit addresses: without them it takes no bigints. */
export function hasWideMemory(): boolean {
  try {
    createMemory(1, false, 64);
    return true;
  } catch {
    return false;
  }
}
