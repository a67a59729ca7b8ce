/**
 * Cells in columns of text.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Rows as lines: the columns of these numbers stand to the left, the others, of numbers, to the right. */
export function table(
  rows: readonly (readonly string[])[],
  left: readonly number[] = [0],
): string {
  const widths = rows[0]!.map((_, i) =>
    Math.max(...rows.map((row) => row[i]!.length))
  );
  const lines = rows.map((row) =>
    row.map((cell, i) =>
      left.includes(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)
    ).join("  ").trimEnd()
  );
  return lines.join("\n");
}
