/**
 * The options of `deno task bench:peers`.
 *
 * @module
 */

import {
  list,
  number,
  numbers,
  parseOptions,
  text,
  UsageError,
} from "../../examples/cli/args.ts";
import { type CaseName, CASES } from "./cases.ts";

/** Whom Cotan is measured beside. */
export const PEERS = ["jax", "tfjs", "torch"] as const;

/** One of them. */
export type PeerName = typeof PEERS[number];

/** The options, for the help. */
export const OPTIONS = {
  only: list("workloads, by the start of their names", ["W"]),
  peers: list("who runs beside Cotan, or none", PEERS),
  threads: numbers(
    "Cotan's threads, one column each; PyTorch takes the last",
    null,
    "as many as processors",
  ),
  blas: text(
    "auto|PATH",
    "a column more for Cotan, with a system's BLAS and the last of the threads",
    null,
  ),
  seconds: number("seconds for each workload and each who runs it", 3, {
    min: 0,
  }),
  limit: number("seconds after which a workload is given up", 120, { min: 1 }),
};

/** What is measured. */
export interface Request {
  readonly cases: readonly CaseName[];
  readonly peers: readonly PeerName[];
  readonly threads: readonly number[];
  readonly blas: string | null;
  readonly seconds: number;
  readonly limit: number;
}

/** What arguments ask for; throws `UsageError` for what cannot be. */
export function parseRequest(
  args: readonly string[],
  processors: number,
): Request {
  const { only, peers, threads, blas, seconds, limit } = parseOptions(
    "bench:peers",
    OPTIONS,
    args,
  );
  for (const start of only) {
    if (CASES.some((name) => name.startsWith(start))) continue;
    throw new UsageError(
      `--only ${start} starts no workload's name; there are ${
        CASES.join(", ")
      }`,
    );
  }
  const asked = peers.filter((name) => name !== "none");
  for (const name of asked) {
    if (PEERS.some((peer) => peer === name)) continue;
    throw new UsageError(
      `--peers must be some of ${PEERS.join(", ")}, or none; found "${name}"`,
    );
  }
  return {
    cases: CASES.filter((name) => only.some((start) => name.startsWith(start))),
    peers: PEERS.filter((peer) => asked.includes(peer)),
    threads: threads ?? [processors],
    blas,
    seconds,
    limit,
  };
}
