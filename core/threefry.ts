/**
 * The generator behind random keys: Threefry-2x32 with 20 rounds, on the host.
 *
 * Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Rotation distances, eight rounds' worth. */
export const ROTATIONS: readonly number[] = [13, 15, 26, 6, 17, 29, 16, 24];

/** The parity constant of the key schedule. */
export const PARITY = 0x1bd11bda;

/** Two random words from a key and a counter of two words each. */
export function threefry2x32(
  key: readonly [number, number],
  counter: readonly [number, number],
): [number, number] {
  const schedule = [key[0], key[1], key[0] ^ key[1] ^ PARITY];
  let x = (counter[0] + key[0]) >>> 0;
  let y = (counter[1] + key[1]) >>> 0;
  for (let round = 0; round < 20; round++) {
    const r = ROTATIONS[round % 8]!;
    x = (x + y) >>> 0;
    y = ((y << r | y >>> (32 - r)) ^ x) >>> 0;
    if (round % 4 !== 3) continue;
    // A part of the key goes in after every four rounds.
    const i = (round + 1) / 4;
    x = (x + schedule[i % 3]!) >>> 0;
    y = (y + schedule[(i + 1) % 3]! + i) >>> 0;
  }
  return [x, y];
}
