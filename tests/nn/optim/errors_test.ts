/**
 * Bad input of optimizers: thrown at the call, with exact texts.
 *
 * @module
 */

import { DTypeError, ShapeError, type tree, TreeError } from "cotan";
import {
  accumulate,
  adafactor,
  adam,
  adamw,
  clipByGlobalNorm,
  clipByValue,
  ema,
  lion,
  meanGradients,
  muon,
  orthogonalize,
  sgd,
} from "cotan/nn";
import { f32, i32, throws } from "../../support/throws.ts";

const learningRate = 0.1;
const some = sgd({ learningRate });

throws("settings out of range are errors", RangeError, [
  [
    () => adamw({ learningRate: -1 }),
    "Cannot learn at rate -1: it must be finite and not negative",
  ],
  [
    () => sgd({ learningRate: NaN }),
    "Cannot learn at rate NaN: it must be finite and not negative",
  ],
  [
    () => lion({ learningRate, weightDecay: Infinity }),
    "Cannot learn at weightDecay Infinity: it must be finite and not negative",
  ],
  [
    () => adam({ learningRate, eps: -1 }),
    "Cannot learn at eps -1: it must be finite and not negative",
  ],
  [
    () => adamw({ learningRate, b1: 1 }),
    "Cannot average with b1 1: it must be at least 0 and below 1",
  ],
  [
    () => adam({ learningRate, b2: -0.1 }),
    "Cannot average with b2 -0.1: it must be at least 0 and below 1",
  ],
  [
    () => lion({ learningRate, b2: NaN }),
    "Cannot average with b2 NaN: it must be at least 0 and below 1",
  ],
  [
    () => muon({ learningRate, momentum: 2 }),
    "Cannot average with momentum 2: it must be at least 0 and below 1",
  ],
  [
    () => ema({ decay: 1 }),
    "Cannot average with decay 1: it must be at least 0 and below 1",
  ],
  [
    () => sgd({ learningRate, nesterov: true, dampening: 0.5 }),
    "Cannot look ahead with momentum 0 and dampening 0.5: nesterov needs momentum above 0 and dampening 0",
  ],
  [
    () => adafactor({ clipThreshold: 0 }),
    "Cannot scale steps by clipThreshold 0: it must be finite and positive",
  ],
  [
    () => adafactor({ decayRate: -0.8 }),
    "Cannot scale steps by decayRate -0.8: it must be finite and positive",
  ],
  [
    () => clipByGlobalNorm(0),
    "Cannot clip to norm 0: it must be positive",
  ],
  [() => clipByValue(NaN), "Cannot clip to value NaN: it must be positive"],
  [
    () => accumulate(some, 0),
    "Cannot accumulate 0 gradients: it must be an integer from 1",
  ],
  [
    () => orthogonalize(f32(2, 2), 0),
    "Cannot orthogonalize by 0 iterations: it must be an integer from 1",
  ],
]);

throws("settings that exclude each other are errors", TypeError, [
  [
    () => adafactor({ learningRate, relativeStep: true }),
    "Cannot use relativeStep true with a learningRate: steps are relative or have a rate",
  ],
  [
    () => adafactor({ relativeStep: false }),
    "Cannot use relativeStep false without a learningRate: steps are relative or have a rate",
  ],
  [
    () => adafactor({ learningRate, warmupInit: true }),
    "Cannot use warmupInit with a learningRate: let the schedule warm up",
  ],
]);

/** An update of parameters by gradients. */
function update(params: tree.Tree, grads: tree.Tree): unknown {
  return some.update(grads, some.init(params), params);
}

throws("gradients that stand elsewhere than parameters are errors", TreeError, [
  [
    () => update({ w: f32(2, 3), b: null }, { w: null, b: null }),
    "Cannot update f32[2, 3] at w: it has no gradient; make both trees by one tree.partition",
  ],
  [
    () => update({ w: f32(2), b: null }, { w: f32(2), b: f32(3) }),
    "Cannot update by f32[3] at b: there is no such parameter; make both trees by one tree.partition",
  ],
  [
    () => adamw({ learningRate, mask: ["w", "gain"] }).init({ w: f32(2) }),
    'Cannot select by "gain": it matches no leaf; there are w',
  ],
]);

throws("shapes that do not fit are errors", ShapeError, [
  [
    () => update({ w: f32(2, 3) }, { w: f32(3, 2) }),
    "Cannot update f32[2, 3] at w by f32[3, 2]: a gradient has the type of its parameter",
  ],
  [
    () => muon({ learningRate }).init({ up: { bias: f32(3) } }),
    "Cannot orthogonalize f32[3] at up.bias: it must be a matrix; give what is none to another optimizer with partitioned",
  ],
  [
    () =>
      meanGradients((p: { w: ReturnType<typeof f32> }) => p.w)({ w: f32() }),
    "Cannot take the mean of no gradients: the arguments after the parameters must have micro-batches along their first axis",
  ],
]);

throws("leaves that cannot learn are errors", DTypeError, [
  [
    () => update({ ids: i32(3) }, { ids: i32(3) }),
    "Cannot optimize i32[3] at ids: only f32 learns; split the rest off with tree.partition",
  ],
  [
    () => update(f32(3), i32(3)),
    "Cannot update f32[3] by i32[3]: a gradient has the type of its parameter",
  ],
]);
