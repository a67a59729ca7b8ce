import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  bar,
  duration,
  progressLine,
  showProgress,
  type Standing,
} from "../../examples/cli/progress.ts";
import { wrap } from "../../examples/cli/terminal.ts";
import { Recorder } from "./support.ts";

const standing: Standing = {
  step: 50,
  steps: 200,
  loss: 2.34567,
  lr: 0.00125,
  tokensPerSecond: 12345.6,
  secondsLeft: 60,
};

Deno.test("a line says where training stands", () => {
  assertEquals(
    progressLine(standing),
    "step  50/200  loss 2.346  12,346 tokens/s  1:00 left  lr 1.25e-3",
  );
});

Deno.test("a bar is as full as the steps are done", () => {
  assertEquals(
    bar(standing, 70),
    " 50/200 ██████░░░░░░░░░░░░░░░░░ loss 2.346  12,346 tokens/s  1:00 left",
  );
});

Deno.test("a bar fits every terminal", () => {
  const columns = fc.integer({ min: 1, max: 200 });
  const step = fc.integer({ min: 1, max: 200 });
  fc.assert(fc.property(columns, step, (columns, step) => {
    assert(bar({ ...standing, step }, columns).length <= columns);
  }));
});

Deno.test("a duration has hours only where there are any", () => {
  assertEquals([0, 59.6, 61, 3600, 36061].map(duration), [
    "0:00",
    "1:00",
    "1:01",
    "1:00:00",
    "10:01:01",
  ]);
});

Deno.test("lines are printed where nobody watches, and the bar elsewhere", () => {
  const quiet = new Recorder();
  {
    using progress = showProgress(quiet);
    progress.step(standing);
    progress.log(standing);
  }
  assertEquals(quiet.out, `${progressLine(standing)}\n`);

  const drawn: string[] = [];
  const watched = Object.assign(new Recorder(), {
    isInteractive: true,
    status: (text: string) => drawn.push(text),
  });
  {
    using progress = showProgress(watched);
    progress.step(standing);
    progress.step(standing); // too soon to draw again
    progress.log(standing);
  }
  assertEquals(drawn, [bar(standing, 79), ""]);
  assertEquals(watched.out, "");
});

Deno.test("wrapped text keeps its words and paragraphs within the width", () => {
  assertEquals(
    wrap("one two three four five\n\nsix", 24),
    "  one two three four\n  five\n\n  six",
  );
});
