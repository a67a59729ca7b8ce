/**
 * Measures Cotan beside its peers, in turns, prints a table and writes bench/results.json: `deno task bench:peers`.
 *
 * @module
 */

import { helpText, UsageError } from "../../examples/cli/args.ts";
import { type CaseName, mistake } from "./cases.ts";
import { type Command, Contestant } from "./contestant.ts";
import { OPTIONS, parseRequest, type Request } from "./options.ts";
import { torchCommand } from "./torch.ts";
import {
  costsTable,
  loraShare,
  type Outcome,
  type Row,
  timesTable,
} from "./table.ts";

/** Turns of each on a workload: what else the machine does meanwhile then falls on all of them. */
const TURNS = 3;

const here = (file: string): string => new URL(file, import.meta.url).pathname;

/** A script as a user runs it. Packages that outgrow V8's default heap keep what they need. */
function script(
  file: string,
  flags: readonly string[],
  behind: readonly string[] = [],
): Command {
  const before = [
    "run",
    "--allow-all",
    "--no-check",
    "--quiet",
    "--v8-flags=--max-old-space-size=8192",
    ...flags,
    here(file),
  ];
  return { program: Deno.execPath(), before, behind, env: {} };
}

/** Who takes part, by the name of their column. */
function contestants(request: Request): Map<string, Command> {
  const most = String(request.threads.at(-1)!);
  // Without the configuration there is no lock file for what only peers need.
  const peer = (file: string): Command => script(file, ["--no-config"]);
  const commands = {
    jax: peer("jax.ts"),
    tfjs: peer("tfjs.ts"),
    torch: torchCommand(here("pytorch.py"), most),
  };
  return new Map([
    ...columnsOf(request).map(({ who, args }): [string, Command] => [
      who,
      script("cotan.ts", [], args),
    ]),
    ...request.peers.map((name): [string, Command] => [name, commands[name]]),
  ]);
}

/** Cotan's columns, and the arguments of the process behind each. */
function columnsOf(
  { threads, blas }: Request,
): { who: string; args: readonly string[] }[] {
  const columns = threads.map((n) => ({
    who: `cotan, ${n} thread${n === 1 ? "" : "s"}`,
    args: [String(n)],
  }));
  const args = [String(threads.at(-1)!), blas!];
  return blas === null ? columns : [...columns, { who: "cotan, blas", args }];
}

/** Someone who is ready to run a workload. */
interface Ready {
  readonly who: string;
  readonly contestant: Contestant;
  readonly first: number;
  readonly bytes: number | null;
  readonly mistake: string | null;
  readonly times: number[];
}

/** Prepares a workload by everyone, one after another; whoever is missing is taken out of `commands`. */
async function prepare(
  name: CaseName,
  commands: Map<string, Command>,
  limit: number,
  outcomes: Record<string, Outcome>,
): Promise<Ready[]> {
  const ready: Ready[] = [];
  for (const [who, command] of [...commands]) {
    const fail = (none: string, isMissing = false): void => {
      outcomes[who] = { none };
      if (isMissing) commands.delete(who);
      console.error(`${isMissing ? "all" : name} without ${who}: ${none}`);
    };
    let contestant: Contestant | null = null;
    try {
      contestant = new Contestant(command, name, limit * 1000);
      const opening = await contestant.opening();
      if ("facts" in opening) {
        const { facts, ...costs } = opening;
        const wrong = mistake(name, facts);
        ready.push({ who, contestant, ...costs, mistake: wrong, times: [] });
        continue;
      }
      if ("missing" in opening) fail(opening.missing, true);
      else if ("error" in opening) fail(opening.error);
      else outcomes[who] = { none: opening.absent };
    } catch (error) {
      const isMissing = error instanceof Deno.errors.NotFound;
      const message = isMissing
        ? `there is no ${command.program}`
        : (error as Error).message;
      fail(message, isMissing);
    }
    await contestant?.[Symbol.asyncDispose]();
  }
  return ready;
}

/** Runs a workload by everyone, in turns. */
async function runCase(
  name: CaseName,
  commands: Map<string, Command>,
  { seconds, limit }: Request,
): Promise<Row> {
  const outcomes: Record<string, Outcome> = {};
  const ready = await prepare(name, commands, limit, outcomes);
  const spent = new Map<string, number>();
  for (let turn = 0; turn < TURNS; turn++) {
    for (const { who, contestant, times } of ready) {
      const before = spent.get(who) ?? 0;
      if (outcomes[who] || before >= seconds * 1000) continue;
      const start = performance.now();
      try {
        times.push(...await contestant.measure(seconds * 1000 / TURNS));
      } catch (error) {
        outcomes[who] = { none: (error as Error).message };
        console.error(`${name} without ${who}: ${(error as Error).message}`);
      }
      spent.set(who, before + performance.now() - start);
    }
  }
  for (const { who, contestant, ...measured } of ready) {
    outcomes[who] ??= measured;
    await contestant[Symbol.asyncDispose]();
  }
  return { name, outcomes };
}

/** Whether everything that Cotan computed is right. */
async function measure(request: Request): Promise<boolean> {
  const commands = contestants(request);
  const load = Deno.loadavg()[0]!;
  console.log(
    `${navigator.hardwareConcurrency} processors, load ${load.toFixed(2)}${
      load >= 1 ? ": others compute too, so read the ratios alone" : ""
    }`,
  );
  const rows: Row[] = [];
  const columns = columnsOf(request).map(({ who }) => who);
  let isRight = true;
  for (const name of request.cases) {
    console.log(name);
    const row = await runCase(name, commands, request);
    rows.push(row);
    for (const who of columns) {
      const outcome = row.outcomes[who];
      if (outcome && "times" in outcome && outcome.mistake === null) continue;
      isRight = false;
      if (!outcome || !("times" in outcome)) continue;
      console.error(`${name} is wrong by ${who}: ${outcome.mistake}`);
    }
  }
  // Those of the most threads, and of a BLAS where one is asked for.
  const ours = columns.slice(request.threads.length - 1);
  const names = [...columns, ...request.peers]
    .filter((who) => commands.has(who));
  const peers = request.peers.filter((peer) => commands.has(peer));
  console.log(`\n${timesTable(rows, names, ours, peers)}`);
  console.log(`\n${costsTable(rows, ours[0]!)}`);
  const share = loraShare(rows, ours[0]!);
  if (share) console.log(`\n${share}`);
  const results = {
    date: new Date().toISOString(),
    deno: Deno.version.deno,
    processors: navigator.hardwareConcurrency,
    load,
    seconds: request.seconds,
    rows,
  };
  const file = new URL("../results.json", import.meta.url);
  await Deno.writeTextFile(file, JSON.stringify(results, null, 1) + "\n");
  return isRight;
}

/** Runs the command; returns its exit status. */
async function main(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    const summary = "Measures Cotan on wasm beside its peers.";
    console.log(helpText("deno task bench:peers", summary, OPTIONS));
    return 0;
  }
  try {
    const request = parseRequest(args, navigator.hardwareConcurrency);
    return await measure(request) ? 0 : 1;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`error: ${error.message}`);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
