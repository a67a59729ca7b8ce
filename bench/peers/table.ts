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
    /** Bytes of memory that are taken from the system, if known. */
    readonly bytes: number | null;
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

/** Lines: a column for each name, and one with the ratio of each of the `peers` to each of `ours`. */
export function timesTable(
  rows: readonly Row[],
  names: readonly string[],
  ours: readonly string[],
  peers: readonly string[],
): string {
  const pairs = ours.flatMap((own) =>
    peers.map((peer): [string, string] => [own, peer])
  );
  const ratios = pairs.map(([own, peer]) =>
    own === ours[0] ? `× ${peer}` : `${own} × ${peer}`
  );
  const head = ["ms", ...names, ...ratios];
  const lines = rows.map(({ name, outcomes }) => [
    name,
    ...names.map((who) => cell(outcomes[who])),
    ...pairs.map(([own, peer]) => ratio(outcomes[own], outcomes[peer])),
  ]);
  return table([head, ...lines]);
}

/** Lines: the first run of each workload by Cotan, with what is compiled in it, and the memory that it holds. */
export function costsTable(rows: readonly Row[], ours: string): string {
  const lines = rows.flatMap(({ name, outcomes }) => {
    const outcome = outcomes[ours];
    if (!outcome || "none" in outcome) return [];
    const { first, bytes } = outcome;
    return [[name, figure(first), bytes ? figure(bytes / 2 ** 20) : "–"]];
  });
  return table([[ours, "first run, ms", "MiB"], ...lines]);
}

/** How the step of adapters compares with that of everything, or null where either is missing. */
export function loraShare(rows: readonly Row[], ours: string): string | null {
  const [small, full] = ["W5 gpt2", "W5 gpt2-full"].map((name) => {
    const outcome = rows.find((row) => row.name === name)?.outcomes[ours];
    return outcome && "times" in outcome ? outcome : null;
  });
  if (!small || !full) return null;
  const time = figure(median(small.times) / median(full.times));
  const bytes = figure((small.bytes ?? NaN) / (full.bytes ?? NaN));
  return `LoRA step of GPT-2 small: ${time} of the time and ${bytes} of the memory of the full step`;
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
