/**
 * Fits a line to noisy points: `deno run examples/fit_line.ts`.
 *
 * @module
 */

import { init, jit, random, type Tensor, valueAndGrad, zeros } from "cotan";
import { adamw, applyUpdates } from "cotan/nn";

if (import.meta.main) {
  const { name } = await init();
  console.log(`on ${name}`);

  // Points around y = 3 x - 1.
  const [forX, forNoise] = random.split(random.key(0));
  const x = random.uniform(forX!, [256], { min: -1, max: 1 });
  const y = x.mul(3).sub(1).add(random.normal(forNoise!, [256]).mul(0.1));

  type Line = { slope: Tensor; offset: Tensor };
  const loss = ({ slope, offset }: Line, x: Tensor, y: Tensor) =>
    x.mul(slope).add(offset).sub(y).square().mean();

  const optimizer = adamw({ learningRate: 0.1, weightDecay: 0 });
  let line: Line = { slope: zeros([]), offset: zeros([]) };
  let state = optimizer.init(line);

  // Traced once, then run as one program that updates line and state in place.
  using step = jit((line: Line, s: typeof state, x: Tensor, y: Tensor) => {
    const { value, grads } = valueAndGrad(loss)(line, x, y);
    const { updates, state } = optimizer.update(grads, s, line);
    return { line: applyUpdates(line, updates), state, value };
  }, { donate: [0, 1] });

  for (let i = 1; i <= 100; i++) {
    const out = step(line, state, x, y);
    ({ line, state } = out);
    using value = out.value;
    if (i % 20 === 0) {
      console.log(`step ${i}: loss ${(await value.item()).toFixed(4)}`);
    }
  }
  const [slope, offset] = [await line.slope.item(), await line.offset.item()];
  console.log(`slope ${slope.toFixed(2)}, offset ${offset.toFixed(2)}`);
}
