/**
 * The command line: `finetune`, `generate` and `pretrain`.
 *
 * @module
 */

import {
  DeviceError,
  DTypeError,
  FormatError,
  ShapeError,
  TreeError,
} from "./core/mod.ts";
import {
  helpText,
  nearest,
  type Options,
  parseOptions,
  UsageError,
  type Values,
} from "./examples/cli/args.ts";
import { finetune, finetuneOptions } from "./examples/cli/finetune.ts";
import { generateOptions, runGenerate } from "./examples/cli/generate.ts";
import type { CommandContext } from "./examples/cli/job.ts";
import { pretrain, pretrainOptions } from "./examples/cli/pretrain.ts";
import { processTerminal, type Terminal } from "./examples/cli/terminal.ts";
import { TrainingError } from "./examples/cli/train.ts";

export type { Terminal };

/** A command. */
interface Command {
  readonly summary: string;
  readonly options: Options;
  run(args: readonly string[], context: CommandContext): Promise<boolean>;
}

function command<O extends Options>(
  name: string,
  summary: string,
  options: O,
  run: (values: Values<O>, context: CommandContext) => Promise<boolean>,
): Command {
  return {
    summary,
    options,
    run: (args, context) => run(parseOptions(name, options, args), context),
  };
}

const COMMANDS: Readonly<Record<string, Command>> = {
  finetune: command(
    "finetune",
    "Adapts a model to data by LoRA, or trains all of it.",
    finetuneOptions,
    finetune,
  ),
  generate: command(
    "generate",
    "Continues a prompt.",
    generateOptions,
    runGenerate,
  ),
  pretrain: command(
    "pretrain",
    "Trains a model of Llama's architecture, and its tokenizer, from nothing but text.",
    pretrainOptions,
    pretrain,
  ),
};

/** Exit status of a command that was interrupted, as shells have it. */
const INTERRUPTED = 130;

/** Milliseconds in which a second Ctrl-C is the first: the task runner passes on what the terminal sent already. */
const ONE_PRESS = 300;

/** Mistakes of the user or the machine, whose message says all; anything else is a bug and shows its stack. */
const EXPECTED = [
  UsageError,
  TrainingError,
  ShapeError,
  DTypeError,
  TreeError,
  FormatError,
  DeviceError,
  Deno.errors.NotFound,
  Deno.errors.AlreadyExists,
  Deno.errors.PermissionDenied,
  Deno.errors.NotCapable,
  Deno.errors.IsADirectory,
  Deno.errors.NotADirectory,
];

/**
 * Runs a command line and returns the exit status: 0, 1 for a mistake, 130 where Ctrl-C ended it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { main } from "cotan/cli";
 *
 * assertEquals(await main(["generate", "--help"]), 0);
 * ```
 */
export async function main(
  args: readonly string[],
  terminal: Terminal = processTerminal(),
): Promise<number> {
  const [name = "--help", ...rest] = args;
  const isHelp = (arg: string): boolean => arg === "--help" || arg === "-h";
  if (isHelp(name)) {
    terminal.line(overview());
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command && rest.some(isHelp)) {
    const { summary, options } = command;
    terminal.line(helpText(`deno task ${name}`, summary, options));
    return 0;
  }
  const interruption = new AbortController();
  using _ = onInterrupt(interruption, terminal);
  try {
    if (!command) {
      throw new UsageError(
        `unknown command "${name}"; the nearest is ${
          nearest(name, Object.keys(COMMANDS))
        }, and --help lists all`,
      );
    }
    const { signal } = interruption;
    return await command.run(rest, { terminal, signal }) ? 0 : INTERRUPTED;
  } catch (error) {
    terminal.status("");
    if (interruption.signal.aborted && error === interruption.signal.reason) {
      terminal.error("interrupted");
      return INTERRUPTED;
    }
    if (!EXPECTED.some((kind) => error instanceof kind)) throw error;
    terminal.error(`error: ${(error as Error).message}`);
    return 1;
  }
}

function overview(): string {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) =>
    `  deno task ${name}  ${summary}`
  );
  return [
    "Fine-tunes and trains small language models.",
    "",
    ...lines,
    "",
    "Each lists its options with --help.",
  ].join("\n");
}

/** The first Ctrl-C asks the command to end, the second ends the process. */
function onInterrupt(
  interruption: AbortController,
  terminal: Terminal,
): Disposable {
  let first = 0;
  const listener = (): void => {
    if (!interruption.signal.aborted) {
      first = performance.now();
      terminal.status("");
      terminal.error("stopping after this step; Ctrl-C again ends at once");
      interruption.abort();
    } else if (performance.now() - first > ONE_PRESS) {
      Deno.exit(INTERRUPTED);
    }
  };
  Deno.addSignalListener("SIGINT", listener);
  return {
    [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", listener),
  };
}

if (import.meta.main) Deno.exit(await main(Deno.args));
