/**
 * The largest of many numbers.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Up to here each number is put in its place among those kept; more are sorted. */
const FEW = 256;

/**
 * Indices of the `count` largest values, largest first and the first of equals first; those below `least` are left out,
 * and so is NaN.
 */
export function largest(
  values: ArrayLike<number>,
  count: number,
  least = -Infinity,
): number[] {
  return count > FEW
    ? sorted(values, least).slice(0, count)
    : picked(values, count, least);
}

function sorted(values: ArrayLike<number>, least: number): number[] {
  const found: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i]! >= least) found.push(i);
  }
  return found.sort((a, b) => values[b]! - values[a]! || a - b);
}

function picked(
  values: ArrayLike<number>,
  count: number,
  least: number,
): number[] {
  const found: number[] = [];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!(value >= least)) continue;
    if (found.length === count && !(value > values[found[count - 1]!]!)) {
      continue;
    }
    let at = found.length === count ? count - 1 : found.length;
    for (; at > 0 && value > values[found[at - 1]!]!; at--) {
      found[at] = found[at - 1]!;
    }
    found[at] = i;
  }
  return found;
}
