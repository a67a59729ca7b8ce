/**
 * Training as the commands run it: progress on the terminal, and metrics in a file.
 *
 * @module
 */

import { arange } from "../../core/mod.ts";
import type { Schedule } from "../../nn/optim/mod.ts";
import { showProgress } from "./progress.ts";
import type { Terminal } from "./terminal.ts";
import { type Standing, train, type TrainOptions } from "./train.ts";

/** A file of JSON lines, begun anew or gone on with. */
export class Metrics implements Disposable {
  readonly #file: Deno.FsFile;

  constructor(path: string, goesOn = false) {
    this.#file = Deno.openSync(path, {
      write: true,
      create: true,
      truncate: !goesOn,
      append: goesOn,
    });
  }

  /** Writes a line. */
  write(record: Readonly<Record<string, number>>): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(record)}\n`);
    for (let at = 0; at < bytes.length;) {
      at += this.#file.writeSync(bytes.subarray(at));
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** What a session needs beside the training itself. */
export interface SessionOptions extends Omit<TrainOptions, "onStep"> {
  /** Learning rates, for the record. */
  readonly schedule: Schedule;
  /** Steps between two lines of the record. */
  readonly logEvery: number;
  /** Where the record goes. */
  readonly metrics: Metrics;
  /** Where progress is shown. */
  readonly terminal: Terminal;
}

/** Trains, shows progress and keeps the record. A logged loss is the mean since the line before. */
export async function runSession(options: SessionOptions): Promise<Standing> {
  const { schedule, steps, logEvery, metrics, terminal } = options;
  const rates = await ratesOf(schedule, steps);
  using progress = showProgress(terminal);
  const start = performance.now();
  const window = { loss: 0, steps: 0 };
  // The first step compiles: the speed is that of the others.
  const pace = { since: start, steps: 0, tokens: 0 };
  return await train({
    ...options,
    onStep: ({ step, loss, tokens }) => {
      window.loss += loss;
      window.steps++;
      pace.steps++;
      pace.tokens += tokens;
      const now = performance.now();
      const elapsed = (now - pace.since) / 1000;
      const shown = {
        step,
        steps,
        loss: window.loss / window.steps,
        lr: rates[step - 1]!,
        tokensPerSecond: pace.tokens / elapsed,
        secondsLeft: elapsed / pace.steps * (steps - step),
      };
      if (step === 1) Object.assign(pace, { since: now, steps: 0, tokens: 0 });
      progress.step(shown);
      if (step % logEvery !== 0 && step !== steps) return;
      progress.log(shown);
      metrics.write({
        step,
        loss: shown.loss,
        lr: shown.lr,
        tokensPerSecond: Math.round(shown.tokensPerSecond),
        seconds: Math.round(now - start) / 1000,
      });
      Object.assign(window, { loss: 0, steps: 0 });
    },
  });
}

/** The rate of each step. A schedule is elementwise, so one read brings them all. */
async function ratesOf(
  schedule: Schedule,
  steps: number,
): Promise<ArrayLike<number>> {
  using counts = arange(steps);
  using rates = schedule(counts);
  return await rates.data();
}
