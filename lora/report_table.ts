/**
 * A report on adapters as a table.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Report, ReportRow } from "./report_form.ts";

const TITLES = [
  "target",
  "layers",
  "weight",
  "rank",
  "alpha",
  "scale",
  "parameters",
  "of the model",
];

/** Columns of text; the others are of numbers. */
const TEXT = ["target", "weight"];

/** A line for each row, the totals, the memory, and the warnings. */
export function table(report: Omit<Report, "toString">): string {
  const { rows, layers, bytes, rslora, warnings } = report;
  const cells = [
    TITLES,
    ...rows.map((row) => [
      label(row),
      String(row.layers),
      `[${row.weight.join(", ")}]`,
      figure(row.rank),
      figure(row.alpha),
      figure(row.scale),
      ...share(row),
    ]),
    ["total", String(layers), "", "", "", "", ...share(report)],
  ];
  const widths = TITLES.map((_, i) =>
    Math.max(...cells.map((row) => row[i]!.length))
  );
  const lines = cells.map((row) =>
    row.map((cell, i) =>
      TEXT.includes(TITLES[i]!)
        ? cell.padEnd(widths[i]!)
        : cell.padStart(widths[i]!)
    ).join("  ")
  );
  return [
    ...lines,
    `memory: weights ${size(bytes.weights)}, gradients ${
      size(bytes.gradients)
    }, Adam's moments ${size(bytes.moments)}`,
    ...(rslora ? ["the scales are alpha / √rank"] : []),
    ...warnings.map((warning) => `warning: ${warning}`),
  ].join("\n");
}

function label({ target, slices, name }: ReportRow): string {
  const part = slices ? `[${slices.at.join(", ")}]` : "";
  return `${target}${part}${name === null ? "" : ` (${name})`}`;
}

function figure(value: number | null): string {
  return value === null ? "" : String(Number(value.toPrecision(6)));
}

function share(
  { parameters, percent }: Pick<ReportRow, "parameters" | "percent">,
): [string, string] {
  return [parameters.toLocaleString("en"), `${percent.toFixed(2)} %`];
}

/** Bytes with three digits and a unit. */
function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB"];
  const step = Math.min(
    units.length - 1,
    Math.floor(Math.log10(Math.max(bytes, 1)) / 3),
  );
  return `${Number((bytes / 1000 ** step).toPrecision(3))} ${units[step]}`;
}
