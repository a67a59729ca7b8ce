/**
 * What the platform has of threads: the workers of Node and Deno, or those of browsers.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { openLibrary } from "./blas.ts";
import { type Orders, work } from "./worker.ts";

/** A worker, of the web or of Node. */
export interface Thread {
  /** Ends it. */
  terminate(): unknown;
  unref?(): void;
  on?(event: string, listener: (cause: unknown) => void): void;
  addEventListener?(event: string, listener: (cause: unknown) => void): void;
}

/** Whether workers can be started here, and memory be shared with them. */
export function hasWorkers(): boolean {
  return typeof SharedArrayBuffer === "function" &&
    (builtinOf() !== null || "Worker" in globalThis);
}

/** Starts a worker. */
export function startWorker(orders: Orders): Thread {
  const NodeWorker = nodeWorker();
  if (NodeWorker) {
    const worker = new NodeWorker(
      `(${work})(require("node:worker_threads").workerData, ${openLibrary})`,
      { eval: true, workerData: orders },
    );
    worker.unref?.();
    return worker;
  }
  const text = `onmessage = (event) => (${work})(event.data, ${openLibrary})`;
  const url = URL.createObjectURL(
    new Blob([text], { type: "text/javascript" }),
  );
  const worker = new Worker(url, { type: "module" });
  URL.revokeObjectURL(url);
  worker.postMessage(orders);
  return worker;
}

type NodeWorker = new (
  code: string,
  options: { eval: true; workerData: unknown },
) => Thread;

/** The workers of Node and Deno, which do not keep the process alive: reached without an import, for the sake of browsers. */
function nodeWorker(): NodeWorker | null {
  const module = builtinOf()?.("node:worker_threads");
  return (module as { Worker?: NodeWorker } | undefined)?.Worker ?? null;
}

function builtinOf(): ((name: string) => unknown) | null {
  const { process } = globalThis as {
    process?: { getBuiltinModule?: (name: string) => unknown };
  };
  return process?.getBuiltinModule ?? null;
}

/** Whether this thread may wait: that of a page in a browser may not. */
export function maySleep(words: Int32Array): boolean {
  try {
    Atomics.wait(words, 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}
