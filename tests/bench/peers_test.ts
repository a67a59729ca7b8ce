import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init } from "cotan";
import { type CaseName, CASES, mistake } from "../../bench/peers/cases.ts";
import { Contestant } from "../../bench/peers/contestant.ts";
import { parseRequest } from "../../bench/peers/options.ts";
import {
  costsTable,
  loraShare,
  median,
  timesTable,
} from "../../bench/peers/table.ts";
import { workload } from "../../bench/peers/workloads.ts";
import { UsageError } from "../../examples/cli/args.ts";
import { isFull } from "../support/runs.ts";

function refusal(...args: string[]): string {
  return assertThrows(() => parseRequest(args, 2), UsageError).message;
}

Deno.test("without options everything is measured on all processors", () => {
  const request = parseRequest([], 6);
  assertEquals(request.cases, CASES);
  assertEquals(request.peers, ["jax", "tfjs", "torch"]);
  assertEquals([request.threads, request.blas], [[6], null]);
  assertEquals([request.seconds, request.limit], [3, 120]);
});

Deno.test("options choose workloads, peers and threads", () => {
  const args =
    "--only W4,W5 --peers torch,jax --threads 1,2 --blas auto --seconds 0.5";
  assertEquals(parseRequest(args.split(" "), 6), {
    cases: ["W4 step", "W5 small", "W5 gpt2", "W5 gpt2-full"],
    peers: ["jax", "torch"],
    threads: [1, 2],
    blas: "auto",
    seconds: 0.5,
    limit: 120,
  });
  assertEquals(parseRequest(["--peers", "none"], 1).peers, []);
});

Deno.test("workloads and peers that do not exist are refused", () => {
  assertEquals(
    refusal("--only", "W7"),
    `--only W7 starts no workload's name; there are ${CASES.join(", ")}`,
  );
  assertEquals(
    refusal("--peers", "jax,numpy"),
    '--peers must be some of jax, tfjs, torch, or none; found "numpy"',
  );
});

Deno.test("a table has medians, spreads and how many times faster ours is", () => {
  const timed = (times: number[], mistake: string | null = null) => ({
    first: 9,
    times,
    bytes: null,
    mistake,
  });
  const rows = [
    {
      name: "W1 256",
      outcomes: { a: timed([2, 1, 4]), b: timed([300, 120]) },
    },
    {
      name: "W2",
      outcomes: { a: timed([1.5]), b: timed([3], "number 1 is 2") },
    },
    { name: "W3", outcomes: { a: timed([1.5]), b: { none: "too slow" } } },
  ];
  assertEquals(
    timesTable(rows, ["a", "b"], ["a", "b"], ["b"]).split("\n"),
    [
      "ms                     a                       b   × b  b × b",
      "W1 256  2.00 (1.00–4.00)           210 (120–300)   105   1.00",
      "W2      1.50 (1.50–1.50)  3.00 (3.00–3.00) wrong  2.00   1.00",
      "W3      1.50 (1.50–1.50)                       –     –      –",
    ],
  );
});

Deno.test("what adapters cost is told beside what everything costs", () => {
  const cost = (first: number, time: number, mebibytes: number) => ({
    a: { first, times: [time], bytes: mebibytes * 2 ** 20, mistake: null },
  });
  const small = { name: "W5 gpt2", outcomes: cost(900, 50, 600) };
  const full = { name: "W5 gpt2-full", outcomes: cost(3000, 100, 2000) };
  assertEquals(
    loraShare([small, full], "a"),
    "LoRA step of GPT-2 small: 0.500 of the time and 0.300 of the memory of the full step",
  );
  assertEquals(loraShare([small], "a"), null);
  assertEquals(costsTable([small, full], "a").split("\n"), [
    "a             first run, ms   MiB",
    "W5 gpt2                 900   600",
    "W5 gpt2-full           3000  2000",
  ]);
});

Deno.test("the median of an even number of times is between the middle two", () => {
  assertEquals(median([4, 1, 10, 2]), 3);
});

Deno.test("numbers that are off by more than a thousandth are mistakes", () => {
  assertEquals(mistake("W4 step", [6.2619, 6.0068]), null);
  assertEquals(
    mistake("W4 step", [6.2613, 6.02]),
    "number 2 is 6.02, and must be 6.007405",
  );
  assertEquals(mistake("W1 256", []), "there are no numbers to check");
});

function contestant(code: string, limit: number): Contestant {
  const program = Deno.execPath(), before = ["eval", code];
  return new Contestant({ program, before, behind: [], env: {} }, "W3", limit);
}

Deno.test("a process that fails tells why, and one that takes too long is ended", async () => {
  await using broken = contestant("throw new Error('no such luck')", 60_000);
  const { message } = await assertRejects(() => broken.opening(), Error);
  assertEquals(message.includes("no such luck"), true, message);
  await using slow = contestant("setTimeout(() => {}, 60_000)", 500);
  await assertRejects(() => slow.opening(), Error, "it took more than 0.5 s");
});

const quick: readonly CaseName[] = [
  "W1 512x768x8",
  "W2 softmax",
  "W3 gradients",
  "W4 step",
  "W5 small",
];

for (const name of CASES) {
  Deno.test({
    name: `${name} gives the numbers that PyTorch gives`,
    ignore: !isFull && !quick.includes(name),
    async fn() {
      using _ = await init({ backend: "wasm", threads: 1 });
      const work = workload(name);
      await work.run();
      const facts = await work.facts();
      assertEquals(mistake(name, facts), null);
      // A slow machine checks fewer losses.
      if (/^W[45]/.test(name)) assert(facts.length > 1);
    },
  });
}
