/**
 * Pictures of what adapters have learned, as SVG.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Analysis, Similarity } from "./analysis.ts";

/** Side of a cell of a grid, and width and height of a chart, in pixels. */
const CELL = 24;
const CHART = { width: 320, height: 120 };
const MARGIN = 40;

/**
 * Grids of subspace similarity as heat maps, one below the other: white is 0, blue is 1.
 *
 * @example
 * ```ts
 * import { assertStringIncludes } from "@std/assert";
 * import { similaritySvg } from "cotan/lora";
 *
 * const svg = similaritySvg([{ path: "q_proj", grid: [[1, 0.5]] }]);
 * assertStringIncludes(svg, "<title>φ(1, 2) = 0.500</title>");
 * ```
 */
export function similaritySvg(similarities: readonly Similarity[]): string {
  const parts = similarities.map(({ path, grid }) => {
    const cells = grid.flatMap((row, i) =>
      row.map((phi, j) => {
        const light = Math.round(95 - 60 * phi);
        const place = `x="${j * CELL}" y="${i * CELL}"`;
        const size = `width="${CELL}" height="${CELL}"`;
        return `<rect ${place} ${size} fill="hsl(215 80% ${light}%)"><title>φ(${
          i + 1
        }, ${j + 1}) = ${phi.toFixed(3)}</title></rect>`;
      })
    );
    const columns = grid[0]?.length ?? 0;
    return {
      title: path,
      content: cells.join(""),
      width: columns * CELL,
      height: grid.length * CELL,
    };
  });
  return drawing(parts);
}

/**
 * The singular values of each adapter's change as bars, one chart below the other.
 *
 * @example
 * ```ts
 * import { assertStringIncludes } from "@std/assert";
 * import { singularValuesSvg } from "cotan/lora";
 *
 * const row = { path: "q_proj", singularValues: [2, 1], change: 2.2, projected: 1, amplification: 2.2 };
 * assertStringIncludes(singularValuesSvg({ rows: [row] }), "<title>σ 2 = 1.000</title>");
 * ```
 */
export function singularValuesSvg(
  { rows }: Pick<Analysis, "rows">,
): string {
  const parts = rows.map(({ path, singularValues }) => {
    const most = Math.max(...singularValues, Number.MIN_VALUE);
    const step = CHART.width / singularValues.length;
    const bars = singularValues.map((value, i) => {
      const height = CHART.height * value / most;
      const place = `x="${fixed(i * step)}" y="${
        fixed(CHART.height - height)
      }"`;
      const size = `width="${fixed(step * 0.8)}" height="${fixed(height)}"`;
      return `<rect ${place} ${size} fill="hsl(215 60% 50%)"><title>σ ${
        i + 1
      } = ${value.toFixed(3)}</title></rect>`;
    });
    return { title: path, content: bars.join(""), ...CHART };
  });
  return drawing(parts);
}

/** A part of a drawing. */
interface Part {
  readonly title: string;
  readonly content: string;
  readonly width: number;
  readonly height: number;
}

function drawing(parts: readonly Part[]): string {
  let y = MARGIN / 2;
  const groups = parts.map(({ title, content, height }) => {
    const at = y;
    y += height + MARGIN;
    return `<g transform="translate(${MARGIN / 2} ${at + 14})"><text y="-4">${
      escaped(title)
    }</text>${content}</g>`;
  });
  // A character of the titles is about 7 pixels wide.
  const width = MARGIN +
    Math.max(0, ...parts.map((p) => Math.max(p.width, 7 * p.title.length)));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" font-family="monospace" font-size="12">${
    groups.join("")
  }</svg>\n`;
}

function fixed(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
