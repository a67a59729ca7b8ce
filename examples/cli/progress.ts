/**
 * Progress of training: a bar on a terminal, plain lines elsewhere.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Terminal } from "./terminal.ts";

/** Where training stands. */
export interface Standing {
  /** Steps done. */
  readonly step: number;
  /** Steps in all. */
  readonly steps: number;
  /** Training loss. */
  readonly loss: number;
  /** Learning rate. */
  readonly lr: number;
  /** Labels that counted, a second. */
  readonly tokensPerSecond: number;
  /** Seconds that the rest takes at this speed. */
  readonly secondsLeft: number;
}

/** Milliseconds between two drawings of the bar. */
const REDRAW = 100;

/** Shows progress until it is closed. */
export interface Progress extends Disposable {
  /** After every step: draws the bar, if enough time has passed. */
  step(standing: Standing): void;
  /** After every logged step: prints a line where there is no bar. */
  log(standing: Standing): void;
}

/** Progress on a terminal, interactive or not. */
export function showProgress(terminal: Terminal): Progress {
  let drawn = -Infinity;
  return {
    step: (standing) => {
      const now = performance.now();
      if (!terminal.isInteractive || now - drawn < REDRAW) return;
      drawn = now;
      terminal.status(bar(standing, terminal.columns() - 1));
    },
    log: (standing) => {
      if (!terminal.isInteractive) terminal.line(progressLine(standing));
    },
    [Symbol.dispose]: () => terminal.status(""),
  };
}

/** A line that stands for itself. */
export function progressLine(standing: Standing): string {
  const { step, steps, lr } = standing;
  const width = String(steps).length;
  return `step ${String(step).padStart(width)}/${steps}  ${
    figures(standing)
  }  lr ${lr.toExponential(2)}`;
}

/** The bar, as wide as the room that the figures leave it, at most 30 characters. */
export function bar(standing: Standing, columns: number): string {
  const { step, steps } = standing;
  const left = `${String(step).padStart(String(steps).length)}/${steps} `;
  const right = ` ${figures(standing)}`;
  const width = Math.min(30, columns - left.length - right.length);
  if (width < 5) return (left + right.trimStart()).slice(0, columns);
  const filled = Math.round(width * step / steps);
  return left + "█".repeat(filled) + "░".repeat(width - filled) + right;
}

function figures(
  { loss, tokensPerSecond, secondsLeft }: Standing,
): string {
  const speed = Math.round(tokensPerSecond).toLocaleString("en-US");
  return `loss ${loss.toFixed(3)}  ${speed} tokens/s  ${
    duration(secondsLeft)
  } left`;
}

/** Minutes and seconds, with hours where there are any: `1:05`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const start = hours > 0 ? `${hours}:${two(minutes)}` : String(minutes);
  return `${start}:${two(whole % 60)}`;
}
