import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../core/mod.ts";
import { readPeftConfig } from "../../lora/peft_config.ts";
import { isTarget, rankAt, scaleAt } from "../../lora/peft_match.ts";
import { writePeftConfig } from "../../lora/peft_write.ts";

const paths = [0, 1, 10].flatMap((i) => [
  `model.layers.${i}.self_attn.q_proj`,
  `model.layers.${i}.self_attn.v_proj`,
  `model.layers.${i}.mlp.up_proj`,
]).concat("lm_head", "q_proj");
const base = { peft_type: "LORA", target_modules: ["q_proj"] };

/** Layers without biases. */
function layersAt(paths: readonly string[]) {
  return paths.map((path) => ({ path, hasBias: false }));
}

function read(changes: Record<string, unknown>) {
  return readPeftConfig({ ...base, ...changes }, "c.json");
}

/** The targets under a configuration, layers' paths shortened. */
function targets(changes: Record<string, unknown>): string[] {
  const linear = paths.filter((path) => path !== "lm_head");
  return paths.filter((path) => isTarget(read(changes), path, linear))
    .map((path) => path.replace(/^model\.layers\./, ""));
}

Deno.test("targets are taken by PEFT's rules in PEFT's order", () => {
  const q = ["0.self_attn.q_proj", "1.self_attn.q_proj", "10.self_attn.q_proj"];
  assertEquals(targets({}), [...q, "q_proj"]);
  assertEquals(targets({ target_modules: ["self_attn.q_proj"] }), q);
  // An entry is no expression, and matches whole segments.
  assertEquals(targets({ target_modules: ["proj", ".*q_proj"] }), []);
  // A text is an expression that must match the whole path.
  assertEquals(targets({ target_modules: "q_proj" }), ["q_proj"]);
  assertEquals(targets({ target_modules: ".*\\.[01]\\..*(q|v)_proj" }), [
    "0.self_attn.q_proj",
    "0.self_attn.v_proj",
    "1.self_attn.q_proj",
    "1.self_attn.v_proj",
  ]);
  assertEquals(targets({ target_modules: "all-linear" }).length, 10);
  assertEquals(targets({ target_modules: "ALL-LINEAR" }).length, 10);
  assertEquals(targets({ exclude_modules: ["q_proj"] }), []);
  assertEquals(targets({ exclude_modules: ".*layers.*" }), ["q_proj"]);
  // The number of the layer is not asked where the entry is the whole path.
  assertEquals(targets({ layers_to_transform: [0, 10] }), [
    "0.self_attn.q_proj",
    "10.self_attn.q_proj",
    "q_proj",
  ]);
  assertEquals(targets({ layers_to_transform: 1, layers_pattern: "layers" }), [
    "1.self_attn.q_proj",
    "q_proj",
  ]);
  assertEquals(targets({ layers_to_transform: 1, layers_pattern: [] }), [
    "1.self_attn.q_proj",
    "q_proj",
  ]);
  const config = read({ layers_to_transform: 1, layers_pattern: "(h|layers)" });
  assert(isTarget(config, "layers.1.experts.0.q_proj", []));
  assertFalse(isTarget(config, "layers.0.experts.1.q_proj", []));
  assertEquals(
    targets({ layers_to_transform: 1, layers_pattern: ["h", "blocks"] }),
    ["q_proj"],
  );
});

Deno.test("ranks and alphas follow the first pattern that matches, and rsLoRA divides by the root", () => {
  const config = read({
    r: 4,
    lora_alpha: 8,
    rank_pattern: { "0.self_attn.q_proj": 16, "layers.\\d+.*": 2 },
    alpha_pattern: { "v_proj": 3 },
  });
  const at = (path: string) => [rankAt(config, path), scaleAt(config, path)];
  assertEquals(at("model.layers.0.self_attn.q_proj"), [16, 0.5]);
  // The pattern may start at any segment, not within one.
  assertEquals(at("model.layers.10.self_attn.q_proj"), [2, 4]);
  assertEquals(at("model.layers.0.self_attn.v_proj"), [2, 1.5]);
  assertEquals(at("x.my_v_proj"), [4, 2]);
  assertEquals(
    scaleAt(read({ r: 4, lora_alpha: 8, use_rslora: true }), "x"),
    4,
  );
  // PEFT's own defaults are r 8 and lora_alpha 8.
  assertEquals([rankAt(read({}), "x"), scaleAt(read({}), "x")], [8, 1]);
});

Deno.test("what is malformed or not supported yet is refused", () => {
  const cases: [Record<string, unknown>, string][] = [
    [
      { peft_type: "IA3" },
      'peft_type is "IA3", and only "LORA" is supported so far',
    ],
    [
      { peft_type: undefined },
      'peft_type is undefined, and only "LORA" is supported so far',
    ],
    [{ use_dora: true }, "use_dora is true, which is not supported yet"],
    [{ bias: "all" }, 'bias is "all", which is not supported yet'],
    [
      { modules_to_save: ["classifier"] },
      'modules_to_save is ["classifier"], which is not supported yet',
    ],
    [
      { init_lora_weights: "pissa_niter_4" },
      'init_lora_weights is "pissa_niter_4", which is not supported yet',
    ],
    [{ lora_bias: true }, "lora_bias is true, which is not supported yet"],
    [
      { target_parameters: ["w"] },
      'target_parameters is ["w"], which is not supported yet',
    ],
    [
      { target_modules: undefined },
      "target_modules is absent, and must be a text or a list of texts",
    ],
    [
      { target_modules: [1] },
      "target_modules is [1], and must be a text or a list of texts",
    ],
    [{ r: 0 }, "the rank is 0, and must be a positive integer"],
    [
      { rank_pattern: { q: 1.5 } },
      "the rank is 1.5, and must be a positive integer",
    ],
    [{ lora_alpha: "8" }, 'lora_alpha is "8", and must be a number'],
    [
      { alpha_pattern: { q: null, v: true } },
      "alpha_pattern is true, and must be a number",
    ],
  ];
  for (const [changes, fault] of cases) {
    const error = assertThrows(() => read(changes), FormatError);
    assertEquals(error.message, `Cannot read c.json: ${fault}`);
  }
  assertThrows(
    () => targets({ target_modules: "(" }),
    FormatError,
    "Cannot read c.json: ( is no regular expression",
  );
  read({ bias: null, modules_to_save: [], use_dora: false, unknown: 1 });
});

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

const details = { baseModel: null, taskType: null };

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
    { "x.iii": 8 },
    { "x.iii": 16 },
  ]);
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
