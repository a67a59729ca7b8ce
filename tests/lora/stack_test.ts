/**
 * Adapters in a stack, of which each row of a batch has one.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { jit, memory, random, scope, type Tensor, tensor } from "cotan";
import {
  lora,
  type LoraOptions,
  mergeAdapters,
  stackAdapters,
  withRows,
} from "cotan/lora";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  distance,
  gpt,
  type GptParams,
  gptParams,
  moved,
  someIds,
  typesIn,
} from "./support.ts";

const options = { targets: ["c_attn", "wpe"], rank: 2, alpha: 3 };

eachBackend(
  "rows of a batch are served by adapters of their own, in one program",
  async () => {
    const params = gptParams();
    const sliced = { parts: { c_attn: [true, false, true] } };
    const trees = Array.from({ length: 64 }, (_, i) =>
      moved(
        lora(params, {
          targets: i % 2 ? ["c_attn", "c_fc"] : ["c_attn", "wte"],
          rank: 1 + i % 3,
          alpha: 3,
          key: random.key(i),
          ...sliced,
        }),
        i,
      ));
    // The last row has the base alone.
    const models = [...trees, params];
    const tuned = scope(() => stackAdapters(models));
    assertEquals(typesIn(tuned, /wte.*lora|h\.0.*attn.*lora\.2/), [
      "transformer.wte.lora.a f32[65, 3, 11]",
      "transformer.wte.lora.b f32[65, 8, 3]",
      "transformer.wte.lora.scale f32[65]",
      "transformer.h.0.attn.c_attn.lora.2.a f32[65, 3, 8]",
      "transformer.h.0.attn.c_attn.lora.2.b f32[65, 8, 3]",
      "transformer.h.0.attn.c_attn.lora.2.scale f32[65]",
    ]);
    using run = jit((p: GptParams, rows: Tensor, ids: Tensor) =>
      gpt.apply(withRows(p, rows), ids)
    );
    using alone = jit((p: GptParams, ids: Tensor) => gpt.apply(p, ids));
    const T = 3;
    const ids = Array.from({ length: 65 }, (_, i) => [i % 11, 3, (2 * i) % 11]);
    const all = tensor(ids, { dtype: "i32" });
    const order = Int32Array.from({ length: 65 }, (_, i) => (i * 7 + 64) % 65);
    const out = await run(tuned, tensor(order), all).data();
    const { programs } = memory();
    await run(tuned, tensor(order.toReversed()), all).data();
    assertEquals(memory().programs, programs);
    for (const row of [0, 1, 2, 3, 30, 64]) {
      const own = tensor([ids[row]!], { dtype: "i32" });
      const expected = await alone(models[order[row]!]!, own).data();
      const size = T * 11;
      const found = out.slice(row * size, (row + 1) * size);
      assert(distance(expected, found) < 2e-5, `row ${row}`);
    }
  },
);

inFloat64("what cannot be stacked or served is refused", () => {
  const params = gptParams(), other = gptParams();
  const key = random.key(0);
  const make = (p: GptParams, changes: Partial<LoraOptions> = {}) =>
    lora(p, { ...options, key, ...changes });
  const stacked = stackAdapters([make(params), make(params)]);
  const rows = tensor([0, 1], { dtype: "i32" });
  const cases: [() => unknown, string][] = [
    [() => stackAdapters([]), "Cannot stack adapters: there are no models"],
    [
      () => stackAdapters([make(params), make(params), make(other)]),
      "Cannot stack adapters: models 0 and 2 differ in their base at transformer.wte; adapt the same parameters",
    ],
    [
      () => stackAdapters([make(params, { dropout: 0.1 })]),
      "Cannot stack adapters: the one at transformer.h.0.attn.c_attn is more than a, b and scale",
    ],
    [
      () => stackAdapters([make(params, { name: "tales" })]),
      "Cannot stack adapters: the one at transformer.wpe is more than a, b and scale",
    ],
    [
      () => withRows(make(params), rows),
      "Cannot serve rows: the adapter at transformer.wpe.lora is no stack; use stackAdapters",
    ],
    [
      () => withRows(stacked, tensor([0, 1])),
      "Cannot serve rows by f32[2]: they are i32; use cast",
    ],
    [
      () => withRows(stacked, tensor(0, { dtype: "i32" })),
      "Cannot serve rows by i32[]: there is one number for each row",
    ],
    [
      () =>
        gpt.apply(withRows(stacked, tensor([0], { dtype: "i32" })), someIds()),
      "Cannot apply adapters by rows i32[1] to i32[3]: there must be one number for each of its 3 rows",
    ],
    [
      () => gpt.apply(stacked, someIds()),
      "Cannot apply a stack of adapters f32[2, 2, 16]: say which of them serves each row, by withRows",
    ],
    [
      () => mergeAdapters(stacked),
      "Cannot merge adapters: the ones at transformer.wpe are a stack, of which each row of a batch has one; merge one of them",
    ],
  ];
  for (const [call, message] of cases) {
    const error = assertThrows(call, Error);
    assertEquals(error.message, message);
  }
});
