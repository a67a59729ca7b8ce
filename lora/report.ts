/**
 * What adapters a model has, as a table: which layers, at which rank and scale, and how many parameters.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Shape, type Tree, tree as trees } from "../core/mod.ts";
import { adaptedLayers } from "./layers.ts";

/** Adapters of layers of one name, shape, rank and scale. */
export interface ReportRow {
  /** Last name of the layers' paths. */
  readonly target: string;
  /** Number of layers. */
  readonly layers: number;
  /** [out, in] of a layer. */
  readonly weight: Shape;
  /** Rank of an adapter. */
  readonly rank: number;
  /** The scale in force: alpha / rank, or alpha / √rank for rsLoRA. */
  readonly scale: number;
  /** Trainable parameters of all of them. */
  readonly parameters: number;
  /** The same in percent of the model's. */
  readonly percent: number;
}

/** The adapters of a model. */
export interface Report {
  /** A row per kind of target. */
  readonly rows: readonly ReportRow[];
  /** Number of adapted layers. */
  readonly layers: number;
  /** Trainable parameters of all adapters. */
  readonly parameters: number;
  /** Parameters of the model without adapters. */
  readonly modelParameters: number;
  /** Parameters of the adapters in percent of the model's. */
  readonly percent: number;
  /** The table. */
  toString(): string;
}

/**
 * Reports on the adapters of a model. The scales are read back from the backend, hence the promise.
 *
 * Throws `TreeError` where there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, zeros } from "cotan";
 * import { lora, report } from "cotan/lora";
 *
 * const params = { q_proj: { weight: zeros([64, 64]), bias: null } };
 * const key = random.key(0);
 * const tuned = lora(params, { targets: "q_proj", rank: 4, alpha: 8, key });
 * assertEquals(
 *   String(await report(tuned)),
 *   `target  layers  weight    rank  scale  parameters  of the model
 * q_proj       1  [64, 64]     4      2         512       12.50 %
 * total        1                                512       12.50 %`,
 * );
 * ```
 */
export async function report(tuned: Tree): Promise<Report> {
  const layers = adaptedLayers(tuned, "report on adapters");
  const scales = await Promise.all(
    layers.map(({ adapter }) => adapter.scale.item()),
  );
  const all = trees.count(tuned);
  const sum = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);
  const own = layers.map(({ adapter: { a, b } }) => trees.count([a, b]));
  const parameters = sum(own);
  const modelParameters = all - parameters - layers.length;
  const percentOf = (count: number) => 100 * count / modelParameters;
  const groups = Map.groupBy(layers.keys(), (i) => {
    const { path, weight, adapter } = layers[i]!;
    return [lastName(path), weight, adapter.a, scales[i]].join();
  });
  const rows = [...groups.values()].map((members) => {
    const { path, weight, adapter } = layers[members[0]!]!;
    const parameters = sum(members.map((i) => own[i]!));
    return {
      target: lastName(path),
      layers: members.length,
      weight: weight.shape,
      rank: adapter.a.shape[0]!,
      scale: scales[members[0]!]!,
      parameters,
      percent: percentOf(parameters),
    };
  });
  const totals = {
    layers: layers.length,
    parameters,
    modelParameters,
    percent: percentOf(parameters),
  };
  const toString = () => table(rows, totals);
  // So that console.log shows the table too.
  const inspect = { [Symbol.for("Deno.customInspect")]: toString };
  return { rows, ...totals, toString, ...inspect };
}

/** The last name of a path that is no number: that of the list where the last is one. */
function lastName(path: string): string {
  return path.split(".").findLast((name) => !/^\d+$/.test(name)) ?? path;
}

function table(
  rows: readonly ReportRow[],
  totals: Pick<Report, "layers" | "parameters" | "percent">,
): string {
  const cells = [
    [
      "target",
      "layers",
      "weight",
      "rank",
      "scale",
      "parameters",
      "of the model",
    ],
    ...rows.map((row) => [
      row.target,
      String(row.layers),
      `[${row.weight.join(", ")}]`,
      String(row.rank),
      String(Number(row.scale.toPrecision(6))),
      ...share(row),
    ]),
    ["total", String(totals.layers), "", "", "", ...share(totals)],
  ];
  const widths = cells[0]!.map((_, i) =>
    Math.max(...cells.map((row) => row[i]!.length))
  );
  return cells.map((row) =>
    row.map((cell, i) =>
      i === 0 || i === 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)
    ).join("  ")
  ).join("\n");
}

function share(
  { parameters, percent }: Pick<Report, "parameters" | "percent">,
): [string, string] {
  return [parameters.toLocaleString("en"), `${percent.toFixed(2)} %`];
}
