/**
 * What is likely a mistake in how a model is adapted.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Layer } from "./layers.ts";
import type { ReportRow } from "./report_form.ts";

/** A scale above this is more than any recipe in the papers; it is what alpha without / rank comes to. */
const LARGE_SCALE = 8;

/** Layers whose weight is several stacked. */
const FUSED =
  /(?:^|\.)(?:c_attn|query_key_value|qkv_proj|Wqkv|in_proj|gate_up_proj)$/;

/** A sentence for each thing that is likely not meant. */
export function warningsOf(
  rows: readonly ReportRow[],
  layers: readonly Layer[],
): string[] {
  const lowRank = rows.filter(({ rank }) => rank !== null);
  return [
    ...uneven(lowRank, layers),
    ...differing(lowRank),
    ...lowRank.flatMap((row) => {
      const { scale, rank } = row;
      return scale !== null && scale > LARGE_SCALE
        ? [
          `${named(row)} counts ${
            Number(scale.toPrecision(6))
          } times at rank ${rank}: was alpha meant to be divided by the rank?`,
        ]
        : [];
    }),
    ...lowRank.flatMap((row) => {
      const { slices, rank, paths } = row;
      return !slices && FUSED.test(paths[0]!)
        ? [
          `${
            named(row)
          } is several weights in one, which share rank ${rank}: parts gives each an adapter of its own`,
        ]
        : [];
    }),
  ];
}

/** Targets that an adapter changes in some blocks and not in others. */
function uneven(
  rows: readonly ReportRow[],
  layers: readonly Layer[],
): string[] {
  const likes = Map.groupBy(
    layers.map(({ path }) => path),
    (path) => path.replace(/\.\d+(?=\.|$)/g, ".*"),
  );
  const adapters = Map.groupBy(rows, ({ name }) => name);
  return [...adapters.values()].flatMap((own) => {
    const adapted = new Set(own.flatMap(({ paths }) => paths));
    return [...likes].flatMap(([pattern, paths]) => {
      const missing = paths.filter((path) => !adapted.has(path));
      if (missing.length === 0 || missing.length === paths.length) return [];
      const some = missing.slice(0, 3).join(", ");
      const more = missing.length > 3 ? `, and ${missing.length - 3} more` : "";
      return [
        `${named(own[0]!, pattern)} is adapted in ${
          paths.length - missing.length
        } of ${paths.length} layers: not ${some}${more}`,
      ];
    });
  });
}

/** What is adapted, with the adapter's name where it has one. */
function named({ name, target }: ReportRow, what = target): string {
  return name === null ? what : `${what} (${name})`;
}

/** Targets that have several ranks under one name of an adapter. */
function differing(rows: readonly ReportRow[]): string[] {
  const groups = Map.groupBy(rows, ({ target, name }) => `${target} ${name}`);
  return [...groups.values()].flatMap((members) => {
    const ranks = [...new Set(members.map(({ rank }) => rank!))];
    return ranks.length < 2
      ? []
      : [`${named(members[0]!)} has ranks ${ranks.join(", ")}`];
  });
}
