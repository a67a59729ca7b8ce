/**
 * Pauses of a long loop, in which timers and signals have their turn.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Milliseconds between two turns of the event loop. */
const EVERY = 20;

/** Waits a moment where it is time to, and throws the reason of a signal that is aborted. */
export type Pause = () => Promise<void> | void;

/** Pauses for a signal; without one nothing waits, as on the CPU a generation alone never does. */
export function pausing(signal: AbortSignal | undefined): Pause {
  let last = performance.now();
  return () => {
    signal?.throwIfAborted();
    if (!signal || performance.now() - last < EVERY) return;
    return new Promise<void>((resolve) => setTimeout(resolve)).then(() => {
      last = performance.now();
      signal.throwIfAborted();
    });
  };
}
