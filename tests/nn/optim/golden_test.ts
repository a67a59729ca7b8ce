import { assertEquals } from "@std/assert";
import type { Tensor } from "cotan";
import {
  adam,
  adamw,
  clipByGlobalNorm,
  globalNorm,
  type Optimizer,
  type Schedule,
  sgd,
  warmupConstant,
  warmupCosine,
  warmupLinear,
  warmupPolynomial,
} from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { hasGolden, readSettings, uploadTensors } from "./golden.ts";
import { assertRates, step } from "./support.ts";

/** What golden files say of an optimizer, as ours; null where there is none. */
function build(
  name: string,
  o: Record<string, number | number[]>,
): Optimizer | null {
  const learningRate = o.lr as number, weightDecay = o.weight_decay as number;
  if (name.startsWith("sgd")) {
    return sgd({
      learningRate,
      weightDecay,
      momentum: o.momentum as number,
      dampening: o.dampening as number,
      nesterov: Boolean(o.nesterov),
    });
  }
  if (!name.startsWith("adam")) return null;
  const [b1, b2] = o.betas as [number, number];
  const options = { learningRate, weightDecay, b1, b2, eps: o.eps as number };
  return name.startsWith("adamw")
    ? adamw(options)
    : adam({ ...options, amsgrad: Boolean(o.amsgrad) });
}

/** Parameters of a golden optimizer after each step against ours, relative to their size. */
async function checkOptimizers(rtol: number, t: Deno.TestContext) {
  const settings = readSettings(), tensors = uploadTensors();
  const at = (name: string, k: number): Tensor =>
    tensors.get(name)!.slice([[k, k + 1]]).squeeze(0);
  const done: string[] = [];
  for (const [name, options] of Object.entries(settings.optimizers)) {
    const optimizer = build(name, options);
    if (!optimizer) continue;
    done.push(name);
    await t.step(name, async () => {
      let params = { p0: tensors.get("p0")!, p1: [tensors.get("p1")!] };
      let state = optimizer.init(params);
      for (let k = 0; k < settings.steps; k++) {
        const grads = { p0: at("grads0", k), p1: [at("grads1", k)] };
        ({ params, state } = step(optimizer, grads, state, params));
        const pairs = [["p0", params.p0], ["p1", params.p1[0]!]] as const;
        for (const [leaf, value] of pairs) {
          const expected = await at(`${name}.${leaf}`, k).data();
          const what = `${leaf} after step ${k}`;
          await assertClose(value, expected, { rtol, atol: rtol, what });
        }
      }
    });
  }
  const left = Object.keys(settings.optimizers).filter((n) =>
    !done.includes(n)
  );
  assertEquals(left, ["rmsprop", "rmsprop_momentum", "adagrad"]);
}

inFloat64(
  "sgd, adam and adamw do what PyTorch's do, step by step",
  // The files hold float32: half a unit in the last place.
  (t) => checkOptimizers(6e-8, t),
  !hasGolden,
);

eachBackend(
  "sgd, adam and adamw do in float32 what PyTorch's do",
  (_, t) => checkOptimizers(1e-5, t),
  undefined,
  !hasGolden,
);

/** Clipped golden gradients against ours. */
async function checkClipping(rtol: number): Promise<void> {
  const settings = readSettings(), tensors = uploadTensors();
  const first = (name: string) => tensors.get(name)!.slice([[0, 1]]);
  const grads = [first("grads0").squeeze(0), first("grads1").squeeze(0)];
  for (const { id, max_norm, total_norm } of settings.clip_grad_norm) {
    await assertClose(globalNorm(grads), [total_norm], { rtol, atol: 0 });
    const { updates } = clipByGlobalNorm(max_norm).update(grads, null, grads);
    for (const i of [0, 1]) {
      const expected = await tensors.get(`${id}.g${i}`)!.data();
      await assertClose(updates[i]!, expected, { rtol, atol: rtol });
    }
  }
}

inFloat64(
  "clipByGlobalNorm does what PyTorch's clip_grad_norm_ does",
  () => checkClipping(1e-7),
  !hasGolden,
);

eachBackend(
  "clipByGlobalNorm does in float32 what PyTorch's clip_grad_norm_ does",
  () => checkClipping(1e-5),
  undefined,
  !hasGolden,
);

/** Rates of Hugging Face's schedules against ours. */
async function checkSchedules(rtol: number): Promise<void> {
  const { schedules: s } = readSettings();
  const options = { peak: s.base_lr, warmup: s.warmup, steps: s.total };
  const cases: [Schedule, number[]][] = [
    [warmupConstant(options), s.constant],
    [warmupLinear(options), s.linear],
    // Theirs rises again behind the end.
    [warmupCosine(options), s.cosine.map((r, k) => k < s.total ? r : 0)],
    [warmupPolynomial({ ...options, power: 2, end: 1e-7 }), s.polynomial2],
  ];
  for (const [schedule, rates] of cases) {
    await assertRates(schedule, rates, rtol * s.base_lr);
  }
}

inFloat64(
  "schedules give the rates of Hugging Face's",
  () => checkSchedules(1e-13),
  !hasGolden,
);

eachBackend(
  "schedules give in float32 the rates of Hugging Face's",
  () => checkSchedules(1e-6),
  undefined,
  !hasGolden,
);
