import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../core/mod.ts";
import { readPeftConfig } from "../../lora/peft_config.ts";
import { isTarget, rankAt, scaleAt } from "../../lora/peft_match.ts";
import { writePeftConfig } from "../../lora/peft_write.ts";
import { check } from "../support/runs.ts";

const paths = [0, 1, 10].flatMap((i) => [
  `model.layers.${i}.self_attn.q_proj`,
  `model.layers.${i}.self_attn.v_proj`,
  `model.layers.${i}.mlp.up_proj`,
]).concat("lm_head", "q_proj");
const base = { peft_type: "LORA", target_modules: ["q_proj"] };

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
  // Modules that are trained whole are none, nor what is in them.
  assertEquals(targets({ modules_to_save: ["rs.0", "layers.1"] }), [
    "10.self_attn.q_proj",
    "q_proj",
  ]);
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

Deno.test("what is malformed or not supported is refused, by its key", () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ peft_type: "IA3" }, 'peft_type is "IA3", and only "LORA" is supported'],
    [
      { peft_type: undefined },
      'peft_type is absent, and only "LORA" is supported',
    ],
    [{ use_dora: 1 }, "use_dora is 1, and it must be true or false"],
    [
      { use_rslora: "yes" },
      'use_rslora is "yes", and it must be true or false',
    ],
    [
      { bias: "some" },
      'bias is "some", and there are "none", "all" and "lora_only"',
    ],
    [
      { modules_to_save: "classifier" },
      'modules_to_save is "classifier", and it must be a list of texts',
    ],
    [
      { init_lora_weights: "pissa_niter_4" },
      'init_lora_weights is "pissa_niter_4", and that changes the base; save it in Python with path_initial_model_for_weight_conversion',
    ],
    [{ lora_bias: true }, "lora_bias is true, and that is not supported"],
    [
      { target_parameters: ["w"] },
      'target_parameters is ["w"], and that is not supported',
    ],
    [
      { target_modules: undefined },
      "target_modules is absent, and it must be a text or a list of texts",
    ],
    [
      { target_modules: [1] },
      "target_modules is [1], and it must be a text or a list of texts",
    ],
    [{ r: 0 }, "r is 0, and it must be a positive integer"],
    [
      { rank_pattern: { q: 1.5 } },
      'rank_pattern "q" is 1.5, and it must be a positive integer',
    ],
    [
      { rank_pattern: "q" },
      'rank_pattern is "q", and it must map patterns to numbers',
    ],
    [{ lora_alpha: "8" }, 'lora_alpha is "8", and it must be a number'],
    [
      { alpha_pattern: { q: 2, v: true } },
      'alpha_pattern "v" is true, and it must be a number',
    ],
    [
      { lora_dropout: 1 },
      "lora_dropout is 1, and it must be at least 0 and below 1",
    ],
    [
      { layers_to_transform: [1, -1] },
      "layers_to_transform is -1, and it must be an integer from 0 or several",
    ],
    [
      { base_model_name_or_path: 7 },
      "base_model_name_or_path is 7, and it must be a text",
    ],
  ];
  for (const [changes, fault] of cases) {
    const error = assertThrows(() => read(changes), FormatError);
    assertEquals(error.message, `Cannot read c.json: ${fault}`);
  }
  assertThrows(
    () => targets({ target_modules: "(" }),
    FormatError,
    "Cannot read c.json: target_modules has (, which is no regular expression here",
  );
  read({ bias: null, modules_to_save: [], use_dora: false, unknown: 1 });
});

Deno.test("whatever a configuration holds, it is read or refused by file and key", async () => {
  const keys = [
    ...Object.keys(writePeftConfig(
      [{ path: "q", rank: 1, scale: 1 }],
      [{ path: "q", hasBias: false }],
      { baseModel: null, taskType: null },
    )),
    "exclude_modules",
    "lora_bias",
  ];
  const text = fc.constantFrom("q_proj", "(", "[", "*", "layers", "", "all");
  const value = fc.oneof(fc.jsonValue(), text, fc.array(text), fc.integer());
  await check(
    fc.property(fc.constantFrom(...keys), value, (key, value) => {
      const changes = JSON.parse(JSON.stringify({ [key]: value }));
      try {
        const config = read({ layers_to_transform: [1], ...changes });
        for (const path of paths) {
          if (isTarget(config, path, paths)) scaleAt(config, path);
        }
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        const { message } = error;
        assert(message.startsWith(`Cannot read c.json: ${key} `), message);
      }
    }),
    300,
  );
});
