import { assertThrows } from "@std/assert";
import { jit, type Tensor, tensor } from "cotan";
import { constant, type Schedule, warmupCosine, warmupLinear } from "cotan/nn";
import { hasGolden, readGolden } from "../golden_optim.ts";
import { assertClose, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

async function assertRates(
  schedule: Schedule,
  expected: readonly number[],
): Promise<void> {
  using rate = jit((count: Tensor) => schedule(count));
  for (const [k, value] of expected.entries()) {
    const counts = [tensor(k, { dtype: "i32" }), tensor(k)];
    for (const count of counts) await assertClose(rate(count), [value]);
  }
}

Deno.test({
  name:
    "warmupLinear and warmupCosine give the rates of Hugging Face's schedules",
  ignore: !hasGolden,
  async fn() {
    const { settings: { schedules: s } } = await readGolden();
    const options = { peak: s.base_lr, warmup: s.warmup, steps: s.total };
    await assertRates(warmupLinear(options), s.linear);
    // Theirs rises again behind the end.
    const cosine = s.cosine.map((rate, k) => k < s.total ? rate : 0);
    await assertRates(warmupCosine(options), cosine);
  },
});

Deno.test("schedules end at `end` and stay there", async () => {
  const options = { peak: 1, warmup: 1, steps: 3, end: 0.5 };
  await assertRates(warmupLinear(options), [0, 1, 0.75, 0.5, 0.5]);
  await assertRates(warmupCosine(options), [0, 1, 0.75, 0.5, 0.5]);
});

Deno.test("without warm-up the first rate is the peak", async () => {
  const options = { peak: 2, warmup: 0, steps: 2 };
  await assertRates(warmupLinear(options), [2, 1, 0]);
});

Deno.test("constant is the same always", async () => {
  await assertRates(constant(0.25), [0.25, 0.25]);
});

Deno.test("counts of steps that do not fit are errors", () => {
  assertThrows(
    () => warmupCosine({ peak: 1, warmup: 5, steps: 5 }),
    RangeError,
    "Cannot make warmupCosine of 5 warm-up steps in 5: both must be integers, and steps the larger",
  );
  assertThrows(
    () => warmupLinear({ peak: -1, warmup: 0, steps: 5 }),
    RangeError,
    "Cannot learn at peak -1: it must be finite and not negative",
  );
});
