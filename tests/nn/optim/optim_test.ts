import { tensor } from "cotan";
import { adamw, sgd } from "cotan/nn";
import { eachBackend } from "../../support/backends.ts";
import { assertClose } from "../support.ts";

eachBackend(
  "the first steps of adamw are exact in float32 for b2 near 1",
  async () => {
    // With a constant gradient every bias-corrected moment is the gradient, so each step is the rate.
    const optimizer = adamw({ learningRate: 1, weightDecay: 0, b2: 0.9999 });
    const params = { w: tensor([0]) }, grads = { w: tensor([0.25]) };
    let state = optimizer.init(params);
    for (let k = 0; k < 3; k++) {
      const out = optimizer.update(grads, state, params);
      state = out.state;
      await assertClose(out.updates.w, [-1], { within: 1e-6 });
    }
  },
);

eachBackend(
  "b1 = b2 = 0 makes adamw step by the sign of the gradient",
  async () => {
    const optimizer = adamw({ learningRate: 2, b1: 0, b2: 0, weightDecay: 0 });
    const params = { w: tensor([1, 1]) }, grads = { w: tensor([3, -4]) };
    const out = optimizer.update(grads, optimizer.init(params), params);
    await assertClose(out.updates.w, [-2, 2], { within: 1e-6 });
  },
);

eachBackend(
  "a schedule gives the rate from the number of updates done",
  async () => {
    const optimizer = sgd({
      learningRate: (count) => count.cast("f32").add(1),
    });
    const params = { w: tensor([0]) }, grads = { w: tensor([1]) };
    let state = optimizer.init(params);
    for (const rate of [1, 2, 3]) {
      const out = optimizer.update(grads, state, params);
      state = out.state;
      await assertClose(out.updates.w, [-rate]);
    }
  },
);
