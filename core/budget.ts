/**
 * The memory that a backend may take, and the errors where it does not reach: the same on every backend.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DeviceError } from "./errors.ts";
import { format, type Type } from "./shape.ts";

/** As much as 32-bit addresses reach, less a page, so that every end has an address as well. */
export const ADDRESSABLE: number = 2 ** 32 - 2 ** 16;

/** What memory is for: a tensor of a type, or something with a name. */
export type Wanted = Type | string;

/** The error of an allocation that a budget does not allow; nothing has been taken yet. `wayOut` ends the sentence. */
export function outOfMemory(
  wanted: Wanted,
  bytes: number,
  inUse: number,
  budget: number,
  wayOut = "",
): DeviceError {
  const pieces = inUse + bytes <= budget ? ", the rest in smaller pieces" : "";
  return new DeviceError(
    `Cannot allocate ${nameOf(wanted)}: it takes ${formatBytes(bytes)}, and ${
      formatBytes(inUse)
    } of ${
      formatBytes(budget)
    } are in use${pieces}; a smaller batch needs less${wayOut}`,
  );
}

/** Throws where a tensor is longer than a buffer may be. */
export function checkBuffer(wanted: Wanted, bytes: number, most: number): void {
  if (bytes <= most) return;
  throw new DeviceError(
    `Cannot allocate ${nameOf(wanted)}: it takes ${
      formatBytes(bytes)
    }, and a buffer has at most ${formatBytes(most)}`,
  );
}

function nameOf(wanted: Wanted): string {
  return typeof wanted === "string" ? wanted : format(wanted);
}

/** Bytes as they stand in messages. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return `${Number.isInteger(bytes) ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}
