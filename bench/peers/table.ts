/**
 * Measured times as a table: medians with the fastest and slowest, and how many times faster Cotan is.
 *
 * @module
 */

import { table } from "../../lora/text_table.ts";

/** What came of one workload by one process. */
export type Outcome =
  | {
    /** Milliseconds of the first run, with what is compiled in it. */
    readonly first: number;
    /** Milliseconds of the others. */
    readonly times: readonly number[];
    /** What is off in the results, or null. */
    readonly mistake: string | null;
  }
  /** Why there are no times. */
  | { readonly none: string };

/** A workload by each who ran it. */
export interface Row {
  readonly name: string;
  readonly outcomes: Readonly<Record<string, Outcome>>;
}

/** The element in the middle, or the mean of the two there. */
export function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  const half = (sorted.length - 1) / 2;
  return (sorted[Math.floor(half)]! + sorted[Math.ceil(half)]!) / 2;
}

/** Lines: a column for each name, and one with the ratio to `ours` for each of the `peers`. */
export function timesTable(
  rows: readonly Row[],
  names: readonly string[],
  ours: string,
  peers: readonly string[],
): string {
  const head = ["ms", ...names, ...peers.map((peer) => `× ${peer}`)];
  const lines = rows.map(({ name, outcomes }) => [
    name,
    ...names.map((who) => cell(outcomes[who])),
    ...peers.map((peer) => ratio(outcomes[ours], outcomes[peer])),
  ]);
  return table([head, ...lines]);
}

function cell(outcome: Outcome | undefined): string {
  if (!outcome || "none" in outcome) return "–";
  const { times, mistake } = outcome;
  const [least, most] = [Math.min(...times), Math.max(...times)];
  const spread = `${figure(median(times))} (${figure(least)}–${figure(most)})`;
  return mistake === null ? spread : `${spread} wrong`;
}

function ratio(ours: Outcome | undefined, peer: Outcome | undefined): string {
  if (!ours || !peer || "none" in ours || "none" in peer) return "–";
  return figure(median(peer.times) / median(ours.times));
}

/** Three digits. */
function figure(n: number): string {
  return n >= 100 ? n.toFixed(0) : n.toPrecision(3);
}
