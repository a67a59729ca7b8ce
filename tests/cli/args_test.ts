import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  choice,
  flag,
  helpText,
  list,
  nearest,
  number,
  parseOptions,
  text,
  UsageError,
} from "../../examples/cli/args.ts";

const options = {
  model: text("DIR", "a folder", "here"),
  rank: number("a rank", 8, { integer: true, min: 1 }),
  lr: number("a rate", 0.01, { min: 0, max: 1 }),
  seq: number("a length", null, { integer: true, shown: "what fits" }),
  method: choice(["lora", "full"], "what is trained", "lora"),
  targets: list("layers", ["q_proj", "v_proj"]),
  quick: flag("in a hurry"),
};

const parse = (...args: string[]) => parseOptions("work", options, args);

function refusal(...args: string[]): string {
  return assertThrows(() => parse(...args), UsageError).message;
}

Deno.test("absent options have their defaults", () => {
  assertEquals(parse(), {
    model: "here",
    rank: 8,
    lr: 0.01,
    seq: null,
    method: "lora",
    targets: ["q_proj", "v_proj"],
    quick: false,
  });
});

Deno.test("options are given with a space or an equals sign, and the last counts", () => {
  const values = parse(
    ...["--model", "a b", "--rank=4", "--rank", "2", "--lr", "1e-3"],
    ...["--seq", "7", "--method", "full", "--targets", "x, y", "--quick"],
  );
  assertEquals(values, {
    model: "a b",
    rank: 2,
    lr: 1e-3,
    seq: 7,
    method: "full",
    targets: ["x", "y"],
    quick: true,
  });
});

Deno.test("an unknown option is named with the nearest known one", () => {
  assertEquals(
    refusal("--rnak", "4"),
    "unknown option --rnak of work; the nearest is --rank, and work --help lists all",
  );
  assertEquals(
    refusal("--methods=lora"),
    "unknown option --methods of work; the nearest is --method, and work --help lists all",
  );
  assertEquals(
    refusal("-r", "4"),
    "unknown option -r of work; the nearest is --lr, and work --help lists all",
  );
});

Deno.test("what is no option is refused", () => {
  assertEquals(
    refusal("data.txt"),
    'work takes no argument "data.txt"; see work --help',
  );
  assertEquals(
    refusal("--", "x"),
    'work takes no argument "x"; see work --help',
  );
});

Deno.test("a value that does not fit is shown with what is expected", () => {
  const cases: [args: string[], message: string][] = [
    [["--rank", "x"], '--rank must be a whole number of at least 1, found "x"'],
    [["--rank", "0"], '--rank must be a whole number of at least 1, found "0"'],
    [
      ["--rank", "1.5"],
      '--rank must be a whole number of at least 1, found "1.5"',
    ],
    [
      ["--lr=-1"],
      '--lr must be a number of at least 0 and at most 1, found "-1"',
    ],
    [
      ["--lr", "Infinity"],
      '--lr must be a number of at least 0 and at most 1, found "Infinity"',
    ],
    [["--seq", "a"], '--seq must be a whole number, found "a"'],
    [["--method", "lor"], '--method must be one of lora, full, found "lor"'],
    [
      ["--targets", "a,,b"],
      '--targets must be names with commas between, found "a,,b"',
    ],
    [["--model"], "--model needs a value: --model DIR"],
    [["--model", "--quick"], "--model needs a value: --model DIR"],
  ];
  for (const [args, message] of cases) assertEquals(refusal(...args), message);
});

Deno.test("the nearest word is itself where it is known, and else has the fewest edits", () => {
  const word = fc.stringMatching(/^[a-z]{1,8}$/);
  const words = fc.uniqueArray(word, { minLength: 1 });
  fc.assert(fc.property(words, fc.nat(), (words, i) => {
    const known = words[i % words.length]!;
    assertEquals(nearest(known, words), known);
  }));
  assertEquals(
    nearest("pretain", ["finetune", "generate", "pretrain"]),
    "pretrain",
  );
  assertEquals(nearest("step", ["seq", "steps", "seed"]), "steps");
});

Deno.test("the help has a line for each option, with its default", () => {
  assertEquals(
    helpText("work", "Works.", options),
    `Works.

Usage: work [options]

  --model DIR         a folder [here]
  --rank N            a rank [8]
  --lr X              a rate [0.01]
  --seq N             a length [what fits]
  --method lora|full  what is trained [lora]
  --targets A,B,…     layers [q_proj,v_proj]
  --quick             in a hurry`,
  );
});
