import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { jit, memory, type Tensor, type tree } from "cotan";
import { ema, type EmaState } from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { check } from "../../support/runs.ts";
import { values, varied } from "../support.ts";
import { pathsOf } from "./support.ts";

type Params = { w: Tensor; hole: null };

const at = (seed: number): Params => ({ w: varied([3], seed), hole: null });

for (const debias of [false, true]) {
  const how = debias ? "with" : "without";
  eachBackend(`decay 0 gives the parameters, ${how} debias`, async () => {
    const average = ema({ decay: 0, debias });
    let state = average.init(at(1));
    for (const seed of [2, 3]) state = average.update(at(seed), state);
    await assertClose(average.params(state).w, at(3).w, { rtol: 0, atol: 0 });
  });

  inFloat64(
    `an average is the sum that it should be, ${how} debias`,
    () =>
      check(
        fc.asyncProperty(
          fc.double({ min: 0, max: 0.999, noNaN: true }),
          fc.integer({ min: 1, max: 6 }),
          async (decay, steps) => {
            const average = ema({ decay, debias });
            let state = average.init(at(0));
            for (let t = 1; t <= steps; t++) {
              state = average.update(at(t), state);
            }
            const total = debias ? 1 - decay ** steps : 1;
            const expected = values(3, 0).map((first, i) => {
              let sum = debias ? 0 : decay ** steps * first;
              for (let t = 1; t <= steps; t++) {
                sum += (1 - decay) * decay ** (steps - t) * values(3, t)[i]!;
              }
              return sum / total;
            });
            const bound = { rtol: 1e-11, atol: 1e-12 };
            await assertClose(average.params(state).w, expected, bound);
            assertEquals(await state.count.item(), steps);
          },
        ),
        10,
      ),
  );
}

eachBackend("an average runs in one program with donated state", async () => {
  const average = ema({ decay: 0.9, debias: true });
  const start = at(1);
  // The parameters and the state that is made of them may both be donated.
  let state: EmaState<Params> = average.init(start);
  using first = jit((p: Params, s: EmaState<Params>) => average.update(p, s), {
    donate: [0, 1],
  });
  state = first(start, state);
  await assertClose(average.params(state).w, values(3, 1));
  using next = jit((s: EmaState<Params>, p: Params) => average.update(p, s), {
    donate: [0],
  });
  const params = at(2);
  let second: unknown;
  for (let k = 1; k <= 50; k++) {
    state = next(state, params);
    if (k === 2) second = memory();
  }
  assertEquals(memory(), second);
  assertEquals(await state.count.item(), 51);
  assertEquals(pathsOf(state as tree.Tree), ["count", "average.w"]);
  assertEquals(state.average.hole, null);
});

inFloat64("the first average is a copy", async () => {
  const start = at(1);
  const state = ema({ decay: 0.5 }).init(start);
  start.w.dispose();
  await assertClose(state.average.w, values(3, 1));
});
