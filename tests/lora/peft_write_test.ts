import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TreeError } from "../../core/mod.ts";
import { readPeftConfig } from "../../lora/peft_config.ts";
import { isTarget, rankAt, scaleAt } from "../../lora/peft_match.ts";
import { type AdapterInfo, writePeftConfig } from "../../lora/peft_write.ts";

const paths = [0, 1, 10].flatMap((i) => [
  `model.layers.${i}.self_attn.q_proj`,
  `model.layers.${i}.self_attn.v_proj`,
  `model.layers.${i}.mlp.up_proj`,
]).concat("lm_head", "q_proj");

const details = { baseModel: null, taskType: null };

/** Layers without biases. */
function layersAt(paths: readonly string[]) {
  return paths.map((path) => ({ path, hasBias: false }));
}

Deno.test("a written configuration has exactly the keys that every PEFT knows", () => {
  const adapters = [{ path: "model.q_proj", rank: 8, scale: 2 }];
  const details = { baseModel: "me/model", taskType: "CAUSAL_LM" };
  assertEquals(writePeftConfig(adapters, layersAt(["model.q_proj"]), details), {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: "me/model",
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: 16,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: 8,
    rank_pattern: {},
    revision: null,
    target_modules: ["q_proj"],
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: false,
  });
});

Deno.test("target modules are last names, paths where others share them, an expression where that is not enough", () => {
  const modules = (adapted: string[]) =>
    writePeftConfig(
      adapted.map((path) => ({ path, rank: 1, scale: 1 })),
      layersAt(paths),
      details,
    ).target_modules;
  const up = paths.filter((path) => path.endsWith("up_proj"));
  assertEquals(modules(up), ["up_proj"]);
  assertEquals(modules([up[1]!, paths[1]!]), [
    "model.layers.0.self_attn.v_proj",
    "model.layers.1.mlp.up_proj",
  ]);
  // The path q_proj is the end of others.
  assertEquals(
    modules(["q_proj", up[0]!]),
    "q_proj|model\\.layers\\.0\\.mlp\\.up_proj",
  );
});

Deno.test("alpha is the number that was given, also for rsLoRA and odd ranks", () => {
  const written = (scales: [number, number][]) => {
    const { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern } =
      writePeftConfig(
        scales.map(([scale, rank], i) => ({
          path: `x.${"i".repeat(i + 1)}`,
          rank,
          scale: Math.fround(scale),
        })),
        [],
        details,
      );
    return [r, lora_alpha, use_rslora, rank_pattern, alpha_pattern];
  };
  assertEquals(written([[16 / 3, 3]]), [3, 16, false, {}, {}]);
  assertEquals(written([[0.1 / 7, 7]]), [7, 0.1, false, {}, {}]);
  assertEquals(written([[16 / Math.sqrt(8), 8]]), [8, 16, true, {}, {}]);
  assertEquals(written([[2, 4], [2, 4], [2, 8]]), [
    4,
    8,
    false,
    { iii: 8 },
    { iii: 16 },
  ]);
});

Deno.test("patterns, biases and modules are written by the shortest names", () => {
  const layers = ["0", "1"].flatMap((i) => [
    { path: `h.${i}.q`, hasBias: true },
    { path: `h.${i}.v`, hasBias: true },
    { path: `h.${i}.out`, hasBias: false },
  ]).concat([
    { path: "head.dense", hasBias: true },
    { path: "head.out", hasBias: true },
  ]);
  const low = (
    name: string,
    rank: number,
    saves: AdapterInfo["saves"] & string = "none",
  ) =>
    [0, 1].map((i) => ({
      path: `h.${i}.${name}`,
      rank,
      scale: 2,
      saves,
    }));
  const copy = (path: string, saves: "bias" | "all") => ({
    path,
    rank: null,
    scale: null,
    saves,
  });
  const head = ["head.dense", "head.out"];
  const written = (
    adapters: Parameters<typeof writePeftConfig>[0],
    ...keys: string[]
  ) => {
    const config = writePeftConfig(adapters, layers, details);
    return keys.map((key) => config[key]);
  };
  assertEquals(
    written(
      [...low("q", 4), ...low("v", 2).slice(0, 1)],
      "r",
      "rank_pattern",
      "target_modules",
    ),
    [4, { v: 2 }, ["h.0.v", "q"]],
  );
  assertEquals(
    written(
      [...low("q", 4), low("v", 4)[0]!, low("v", 2)[1]!],
      "rank_pattern",
      "alpha_pattern",
    ),
    [{ "h.1.v": 2 }, { "h.1.v": 4 }],
  );
  const whole = head.map((path) => copy(path, "all"));
  assertEquals(
    written([...low("q", 4), ...whole], "modules_to_save", "target_modules"),
    [["head"], ["q"]],
  );
  assertEquals(
    written([...low("q", 4), whole[1]!], "modules_to_save"),
    [["head.out"]],
  );
  assertEquals(
    written([...low("q", 4, "bias"), ...whole], "bias"),
    ["lora_only"],
  );
  const others = [...head, "h.0.v", "h.1.v"].map((path) => copy(path, "bias"));
  assertEquals(written([...low("q", 4, "bias"), ...others], "bias"), ["all"]);
  const refusals: [Parameters<typeof writePeftConfig>[0], string][] = [
    [
      [...low("q", 4, "bias"), others[0]!],
      "biases of 3 of 6 layers are trained, and PEFT knows those of all or of the targets",
    ],
    [
      whole,
      "none has factors, and PEFT's LoRA has some in one layer at least",
    ],
    [
      [{ ...low("q", 4)[0]!, dora: true }, ...low("v", 4)],
      "some are of DoRA and some are not, and PEFT has one kind",
    ],
    [
      [{ ...low("q", 4)[0]!, dropout: 0.5 }, {
        ...low("v", 4)[0]!,
        dropout: 0,
      }],
      "the rates of dropout are 0.5, 0, and PEFT has one",
    ],
  ];
  for (const [adapters, why] of refusals) {
    assertThrows(
      () => written(adapters),
      TreeError,
      `Cannot save adapters: ${why}`,
    );
  }
  assertThrows(
    () =>
      writePeftConfig(
        [{ path: "x.q", rank: 1, scale: 1 }, copy("out", "all")],
        ["x.q", "x.out", "out"].map((path) => ({ path, hasBias: false })),
        details,
      ),
    TreeError,
    "Cannot save adapters: PEFT would train more whole than out, which others end like",
  );
});

Deno.test("whatever the adapters are, the written configuration gives back their targets, ranks and scales", () => {
  fc.assert(fc.property(
    fc.uniqueArray(fc.nat(paths.length - 1), { minLength: 1 }),
    fc.array(
      fc.tuple(
        fc.integer({ min: 1, max: 64 }),
        fc.float({ min: Math.fround(1e-3), max: 1e3, noNaN: true }),
      ),
      { minLength: paths.length, maxLength: paths.length },
    ),
    (chosen, values) => {
      const adapters = chosen.map((i) => ({
        path: paths[i]!,
        rank: values[i]![0],
        scale: values[i]![1],
      }));
      const json = writePeftConfig(adapters, layersAt(paths), details);
      const config = readPeftConfig(JSON.parse(JSON.stringify(json)), "c.json");
      for (const path of paths) {
        const adapter = adapters.find((x) => x.path === path);
        if (!adapter) {
          assertFalse(isTarget(config, path, []), path);
          continue;
        }
        assert(isTarget(config, path, []), path);
        assertEquals(rankAt(config, path), adapter.rank);
        assertEquals(Math.fround(scaleAt(config, path)), adapter.scale);
      }
    },
  ));
});
