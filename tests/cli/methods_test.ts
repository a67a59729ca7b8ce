import { assert, assertEquals, assertMatch } from "@std/assert";
import { inspectSafetensors } from "../../nn/mod.ts";
import { inFolder, prepare, run } from "./support.ts";

/** The held-out losses before and after, from what was printed. */
function losses(out: string): [before: number, after: number] {
  const found = [...out.matchAll(/held-out loss \w+ training: ([\d.]+)/g)];
  return [Number(found[0]![1]), Number(found[1]![1])];
}

const cases: Record<string, { args: string[]; rank: number | null }> = {
  "dylora": { args: ["--method", "dylora", "--rank", "4"], rank: 4 },
  "dylora with ranks of its own, all rows learning": {
    args: [
      ...["--method", "dylora", "--rank", "4", "--ranks", "1,4"],
      ...["--rank-mode", "full", "--rank-draw", "geometric"],
    ],
    rank: 4,
  },
  "lorasc": {
    args: ["--method", "lorasc", "--rank", "2", "--stages", "3"],
    rank: 6,
  },
  "lora with dropout, its own rate for B, and alpha over the root of the rank":
    {
      args: [
        ...["--rank", "4", "--dropout", "0.1"],
        ...["--lora-plus", "4", "--rslora"],
      ],
      rank: 4,
    },
  "the last blocks": {
    args: ["--method", "last-layers", "--layers", "1"],
    rank: null,
  },
};

for (const [name, { args, rank }] of Object.entries(cases)) {
  Deno.test(`finetune learns by ${name}, and what it saves is what it trained`, async () => {
    await inFolder(async (folder) => {
      const options = await prepare(folder);
      const { status, out, errors } = await run(
        "finetune",
        ...options,
        ...args,
      );
      assertEquals([status, errors], [0, []]);
      const [before, after] = losses(out);
      assert(after < before, out);
      assertMatch(
        out,
        /loaded back: all [\d,]+ logits of a held-out row are equal/,
      );
      if (rank === null) return;
      const tensors = await inspectSafetensors(
        `${folder}/out/adapter_model.safetensors`,
      );
      const a = Object.entries(tensors).find(([name]) =>
        name.endsWith("q_proj.lora_A.weight")
      );
      assertEquals(a![1].shape, [rank, 16]);
    });
  });
}

Deno.test("a sweep prints the loss of each adapter at every rank", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    const shared = [...options, "--rank", "3"];
    await run(
      "finetune",
      ...shared,
      "--method",
      "dylora",
      "--out",
      `${folder}/dy`,
    );
    await run("finetune", ...shared, "--out", `${folder}/lora`);
    const { status, out, errors } = await run(
      ...[
        "sweep",
        "--model",
        `${folder}/model`,
        "--data",
        `${folder}/data.jsonl`,
      ],
      ...["--adapter", `${folder}/dy`, "--beside", `${folder}/lora`],
      ...["--backend", "reference", "--seq", "12"],
    );
    assertEquals([status, errors], [0, []]);
    const rows = out.trimEnd().split("\n").slice(-4);
    assertEquals(rows[0]!.trim().split(/ {2,}/), [
      "rank",
      "DyLoRA",
      "LoRA, cut",
    ]);
    rows.slice(1).forEach((row, i) => {
      const [rank, ...losses] = row.trim().split(/\s+/).map(Number);
      assertEquals([rank, losses.length], [i + 1, 2]);
      assert(losses.every((loss) => loss > 0 && loss < 10), row);
    });
  });
});

Deno.test("a sweep says what it cannot compare", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    await run("finetune", ...options, "--rank", "2", "--out", `${folder}/two`);
    await run(
      "finetune",
      ...options,
      "--rank",
      "3",
      "--out",
      `${folder}/three`,
    );
    const base = [
      ...[
        "sweep",
        "--model",
        `${folder}/model`,
        "--data",
        `${folder}/data.jsonl`,
      ],
      ...["--backend", "reference", "--seq", "12"],
    ];
    const { status, errors } = await run(
      ...base,
      ...["--adapter", `${folder}/two`, "--beside", `${folder}/three`],
    );
    assertEquals(status, 1);
    assertEquals(errors, [
      `error: --beside ${folder}/three has rank 3, and --adapter ${folder}/two 2; compare adapters of one rank`,
    ]);
    const alone = await run(...base, "--beside", `${folder}/three`);
    assertEquals(alone.errors, [
      "error: --beside needs an --adapter to stand beside; give one, or neither to train both",
    ]);
  });
});
