/**
 * Edge cases in which NumPy is the model: each is named by the expression in NumPy that gives the same.
 *
 * @module
 */

import * as cotan from "cotan";
import {
  type DType,
  DTypeError,
  type NestedArray,
  ShapeError,
  type Tensor,
  tensor,
} from "cotan";
import { eachBackend } from "../support/backends.ts";
import { assertRows } from "../support/rows.ts";
import { f32, i32, throws } from "../support/throws.ts";

const of = (dtype: DType, ...values: number[]): Tensor =>
  tensor(values, { dtype });

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

eachBackend("shapes broadcast from the back", async () => {
  const x = tensor([[1, -2, 3], [4, 5, -6]]), e = cotan.zeros([2, 0, 3]);
  const row = tensor([10, 20, 30]), column = tensor([[1], [2]]);
  await assertRows({
    "x + row": [x.add(row), [[11, 18, 33], [14, 25, 24]]],
    "x * column": [x.mul(column), [[1, -2, 3], [8, 10, -12]]],
    "row + column": [row.add(column), [[11, 21, 31], [12, 22, 32]]],
    "x + np.float32(1)": [x.add(tensor(1)), [[2, -1, 4], [5, 6, -5]]],
    "e + row": [e.add(row), { shape: [2, 0, 3] }],
    "np.ones((2, 1, 3)) * e": [cotan.ones([2, 1, 3]).mul(e), {
      shape: [2, 0, 3],
    }],
    "np.ones((1,)) + np.ones((0,))": [cotan.ones([1]).add(cotan.ones([0])), []],
    "np.where(column > 1, row, x)": [cotan.where(column.gt(1), row, x), [
      [1, -2, 3],
      [10, 20, 30],
    ]],
    "np.broadcast_to(np.ones((1, 1)), (2, 0))": [
      cotan.ones([1, 1]).expand([2, 0]),
      [[], []],
    ],
  });
});

eachBackend("reductions over any axes", async () => {
  const x = tensor([[1, -2, 3], [4, 5, -6]]);
  const k = of("i32", 3, -(2 ** 31), 5), u = of("u32", 2 ** 32 - 1, 1, 7);
  await assertRows({
    "x.sum(axis=-2)": [x.sum({ axis: -2 }), [5, 3, -3]],
    "x.sum(axis=(0, -1), keepdims=True)": [
      x.sum({ axis: [0, -1], keepDims: true }),
      [[5]],
    ],
    "x.sum(axis=())": [x.sum({ axis: [] }), [[1, -2, 3], [4, 5, -6]]],
    "x.prod()": [x.prod(), 720],
    "x.prod(axis=1)": [x.prod({ axis: 1 }), [-6, -120]],
    "x.prod(axis=-2, keepdims=True)": [
      x.prod({ axis: -2, keepDims: true }),
      [[4, -10, -18]],
    ],
    "x.prod(axis=())": [x.prod({ axis: [] }), [[1, -2, 3], [4, 5, -6]]],
    "x.max(axis=-1)": [x.max({ axis: -1 }), [3, 5]],
    "x.min(axis=0)": [x.min({ axis: 0 }), [1, -2, -6]],
    "x.mean(axis=0)": [x.mean({ axis: 0 }), [2.5, 1.5, -1.5]],
    "x.var(axis=0)": [x.variance({ axis: 0 }), [2.25, 12.25, 20.25]],
    "x.var(axis=0, ddof=1)": [
      x.variance({ axis: 0, correction: 1 }),
      [4.5, 24.5, 40.5],
    ],
    "x.argmax(axis=0)": [x.argmax({ axis: 0 }), [1, 1, 0]],
    "x.argmin(axis=-1)": [x.argmin({ axis: -1 }), [1, 2]],
    "np.cumsum(x, axis=0)": [x.cumsum({ axis: 0 }), [[1, -2, 3], [5, 3, -3]]],
    "np.cumsum(x, axis=-1)": [x.cumsum(), [[1, -1, 2], [4, 9, 3]]],
    "np.float32(5).sum()": [tensor(5).sum(), 5],
    "np.float32(5).prod()": [tensor(5).prod(), 5],
    "np.float32(5).max()": [tensor(5).max(), 5],
    "k.max()": [k.max(), 5],
    "k.min()": [k.min(), -(2 ** 31)],
    "k.argmin()": [k.argmin(), 1],
    "k.prod(dtype=np.int32)": [k.prod(), -(2 ** 31)],
    "np.cumsum(k, dtype=np.int32)": [
      k.cumsum(),
      [3, -(2 ** 31) + 3, -(2 ** 31) + 8],
    ],
    "u.min()": [u.min(), 1],
    "u.max()": [u.max(), 2 ** 32 - 1],
    "u.argmin()": [u.argmin(), 1],
    "u.argmax()": [u.argmax(), 0],
    "u.sum(dtype=np.uint32)": [u.sum(), 7],
    "u.prod(dtype=np.uint32)": [u.prod(), 2 ** 32 - 7],
    "np.cumsum(u, dtype=np.uint32)": [u.cumsum(), [2 ** 32 - 1, 0, 7]],
  });
});

eachBackend("reductions of empty axes and over axes of size 1", async () => {
  const e = cotan.zeros([2, 0, 3]), one = tensor([[-3], [nan]]);
  await assertRows({
    "e.sum(axis=1)": [e.sum({ axis: 1 }), [[0, 0, 0], [0, 0, 0]]],
    "e.prod(axis=1)": [e.prod({ axis: 1 }), [[1, 1, 1], [1, 1, 1]]],
    "e.prod()": [e.prod(), 1],
    "e.prod(axis=0)": [e.prod({ axis: 0 }), { shape: [0, 3] }],
    "e.sum(axis=(0, 2))": [e.sum({ axis: [0, 2] }), []],
    "e.max(axis=0)": [e.max({ axis: 0 }), { shape: [0, 3] }],
    "e.min(axis=2)": [e.min({ axis: 2 }), [[], []]],
    "e.argmax(axis=-1)": [e.argmax(), [[], []]],
    "e.argmin(axis=0)": [e.argmin({ axis: 0 }), { shape: [0, 3] }],
    "np.cumsum(e, axis=1)": [e.cumsum({ axis: 1 }), { shape: [2, 0, 3] }],
    "np.cumsum(e, axis=2)": [e.cumsum(), { shape: [2, 0, 3] }],
    "np.sort(e, axis=1)": [e.sort({ axis: 1 }), { shape: [2, 0, 3] }],
    "np.argsort(e, axis=2)": [e.argsort(), { shape: [2, 0, 3] }],
    "np.zeros((0,), np.int32).prod()": [of("i32").prod(), 1],
    "one.sum(axis=1)": [one.sum({ axis: 1 }), [-3, nan]],
    "one.prod(axis=1)": [one.prod({ axis: 1 }), [-3, nan]],
    "one.max(axis=1)": [one.max({ axis: 1 }), [-3, nan]],
    "one.min(axis=1)": [one.min({ axis: 1 }), [-3, nan]],
    "one.argmax(axis=1)": [one.argmax({ axis: 1 }), [0, 0]],
    "one.argmin(axis=1)": [one.argmin({ axis: 1 }), [0, 0]],
    "one.var(axis=1)[:1]": [one.slice([[0, 1]]).variance({ axis: 1 }), [0]],
    "np.cumsum(one, axis=1)": [one.cumsum(), [[-3], [nan]]],
    "np.sort(one, axis=1)": [one.sort(), [[-3], [nan]]],
    // As PyTorch's, where NumPy has none.
    "torch.softmax(e, 1)": [e.softmax({ axis: 1 }), { shape: [2, 0, 3] }],
    "torch.log_softmax(e, 1)": [e.logSoftmax({ axis: 1 }), {
      shape: [2, 0, 3],
    }],
    "torch.logsumexp(e, 1)": [e.logSumExp({ axis: 1 }), [
      [-inf, -inf, -inf],
      [-inf, -inf, -inf],
    ]],
  });
});

eachBackend("the mean and variance of too few elements are NaN", async () => {
  await assertRows({
    "np.zeros((0,)).mean()": [cotan.zeros([0]).mean(), nan],
    "np.zeros((0,)).var()": [cotan.zeros([0]).variance(), nan],
    "np.ones((1,)).var(ddof=1)": [
      cotan.ones([1]).variance({ correction: 1 }),
      nan,
    ],
    "np.ones((1,)).var(ddof=2)": [
      cotan.ones([1]).variance({ correction: 2 }),
      nan,
    ],
  });
});

eachBackend("NaN and infinities in reductions and in order", async () => {
  const v = tensor([1, nan, inf, nan, -inf]), w = tensor([2, inf, -3, inf]);
  await assertRows({
    "v.max()": [v.max(), nan],
    "v.min()": [v.min(), nan],
    "v.argmax()": [v.argmax(), 1],
    "v.argmin()": [v.argmin(), 1],
    "w.max()": [w.max(), inf],
    "w.min()": [w.min(), -3],
    "w.argmax()": [w.argmax(), 1],
    "(-w).argmin()": [w.neg().argmin(), 1],
    "np.full(3, -np.inf).max()": [cotan.full([3], -inf).max(), -inf],
    "np.full(3, -np.inf).argmax()": [cotan.full([3], -inf).argmax(), 0],
    "np.full(3, np.inf).argmin()": [cotan.full([3], inf).argmin(), 0],
    "w.prod()": [w.prod(), -inf],
    "np.cumsum(w)": [w.cumsum(), [2, inf, inf, inf]],
    "np.sort(v)": [v.sort(), [-inf, 1, inf, nan, nan]],
    "np.argsort(v, kind='stable')": [v.argsort(), [4, 0, 2, 1, 3]],
    // NumPy has no descending order. PyTorch puts NaN first.
    "torch.argsort(v, stable=True, descending=True)": [
      v.argsort({ descending: true }),
      [1, 3, 2, 0, 4],
    ],
    "np.argsort(np.float32([0, -0.0, 0]), kind='stable')": [
      tensor([0, -0, 0]).argsort(),
      [0, 1, 2],
    ],
    "np.isnan(v)": [v.isNaN(), [false, true, false, true, false]],
    "np.sign(v)": [v.sign(), [1, nan, 1, nan, -1]],
    "np.clip(v, -2, 2)": [v.clip(-2, 2), [1, nan, 2, nan, -2]],
    "np.clip(w, 1, -1)": [w.clip(1, -1), [-1, -1, -1, -1]],
    "np.maximum(v, 0)": [v.maximum(0), [1, nan, inf, nan, 0]],
    "np.minimum(v, 0)": [v.minimum(0), [0, nan, 0, nan, -inf]],
    "np.floor(v)": [v.floor(), [1, nan, inf, nan, -inf]],
    "np.round(v)": [v.round(), [1, nan, inf, nan, -inf]],
    "np.trunc(v)": [v.trunc(), [1, nan, inf, nan, -inf]],
    "np.round(np.float32([0.5, 1.5, 2.5, -1.5, 8388609]))": [
      tensor([0.5, 1.5, 2.5, -1.5, 8388609]).round(),
      [0, 2, 2, -2, 8388609],
    ],
  });
});

eachBackend("mod has the sign of the divisor", async () => {
  const a = tensor([5, -5, 5, -5, 5.5, -5.5, 0, 6, -6]);
  const b = tensor([3, 3, -3, -3, 2, 2, 7, 3, 3]);
  const i = of("i32", 5, -5, 5, -5, 6, 0, 7);
  const j = of("i32", 3, 3, -3, -3, -3, -3, 0);
  await assertRows({
    "np.mod(a, b)": [a.mod(b), [2, 1, -1, -2, 1.5, 0.5, 0, 0, 0]],
    "np.mod(i, j)": [i.mod(j), [2, 1, -1, -2, 0, 0, 0]],
    "np.mod(i, 4)": [i.mod(4), [1, 3, 1, 3, 2, 0, 3]],
    "np.mod(a, 1)": [a.mod(1), [0, 0, 0, 0, 0.5, 0.5, 0, 0, 0]],
    "np.mod(np.uint32([7, 2**32 - 1]), np.uint32(4))": [
      of("u32", 7, 2 ** 32 - 1).mod(4),
      [3, 3],
    ],
    "np.mod(np.float32([5, -5, 0]), np.inf)": [
      tensor([5, -5, 0]).mod(inf),
      [5, inf, 0],
    ],
    "np.mod(np.float32([5, -5, 0]), -np.inf)": [
      tensor([5, -5, 0]).mod(-inf),
      [-inf, -5, 0],
    ],
  });
});

eachBackend("powers at the edges", async () => {
  const a = tensor([nan, 0, 1, inf, -8, -2, 0, 2, 2, 0.5, 0.5, -inf]);
  const b = tensor([0, 0, 9, 0, 1 / 3, 3, -1, -inf, inf, inf, -inf, 3]);
  await assertRows({
    "np.power(a, b)": [
      a.pow(b),
      [1, 1, 1, 1, nan, -8, inf, 0, inf, 0, inf, -inf],
    ],
    "np.power(np.float32([-2, 3, 0]), 2)": [
      tensor([-2, 3, 0]).pow(2),
      [4, 9, 0],
    ],
  });
});

eachBackend("powers of 1 and -0", async () => {
  await assertRows({
    "np.power(np.float32([1, -0.0]), np.float32([np.nan, -1]))": [
      tensor([1, -0]).pow(tensor([nan, -1])),
      [1, -inf],
    ],
  });
});

eachBackend("powers of infinities and to infinities", async () => {
  const a = tensor([-inf, -inf, -inf, -inf, 1, 1, 1, 2, 0.5, -1, -1]);
  const b = tensor([0.5, -0.5, 3, -2, inf, -inf, nan, -inf, -inf, inf, -inf]);
  await assertRows({
    "np.power(a, b)": [a.pow(b), [inf, 0, -inf, 0, 1, 1, 1, 0, inf, 1, 1]],
  });
});

eachBackend("movement of empty axes and axes of size 1", async () => {
  const x = tensor([[1, 2, 3], [4, 5, 6]]), e = cotan.zeros([2, 0, 3]);
  const one = cotan.ones([1, 2, 1]);
  await assertRows({
    "x.reshape(3, -1)": [x.reshape([3, -1]), [[1, 2], [3, 4], [5, 6]]],
    "e.reshape(0, 6)": [e.reshape([0, 6]), { shape: [0, 6] }],
    "e.reshape(-1, 6)": [e.reshape([-1, 6]), { shape: [0, 6] }],
    "np.float32(4).reshape(1, 1)": [tensor(4).reshape([1, 1]), [[4]]],
    "np.ones((1,)).reshape(())": [cotan.ones([1]).reshape([]), 1],
    "e.transpose()": [e.transpose(), { shape: [3, 0, 2] }],
    "e.transpose(-1, 0, 1)": [e.transpose([-1, 0, 1]), { shape: [3, 2, 0] }],
    "np.float32(4).transpose()": [tensor(4).transpose(), 4],
    "one.squeeze()": [one.squeeze(), [1, 1]],
    "one.squeeze(-1)": [one.squeeze(-1), [[1, 1]]],
    "one.squeeze((0, -1))": [one.squeeze([0, -1]), [1, 1]],
    "np.expand_dims(x, -1)": [x.unsqueeze(-1), { shape: [2, 3, 1] }],
    "np.expand_dims(x, -3)": [x.unsqueeze(-3), { shape: [1, 2, 3] }],
    "np.flip(x)": [x.flip(), [[6, 5, 4], [3, 2, 1]]],
    "np.flip(x, -1)": [x.flip(-1), [[3, 2, 1], [6, 5, 4]]],
    "np.flip(e, (0, 1))": [e.flip([0, 1]), { shape: [2, 0, 3] }],
    "np.tile(x, 2)": [x.tile([2]), [[1, 2, 3, 1, 2, 3], [4, 5, 6, 4, 5, 6]]],
    "np.tile(x, (2, 1, 0))": [x.tile([2, 1, 0]), { shape: [2, 2, 0] }],
    "np.tile(e, (1, 2, 2))": [e.tile([1, 2, 2]), { shape: [2, 0, 6] }],
    "np.tile(np.float32(4), (2, 1))": [tensor(4).tile([2, 1]), [[4], [4]]],
    "np.pad(e, ((0, 0), (1, 1), (0, 0)))": [
      e.pad([[0, 0], [1, 1]]),
      zerosOf(2, 2, 3),
    ],
    "np.concatenate([e, e], axis=1)": [cotan.concat([e, e], { axis: 1 }), {
      shape: [2, 0, 3],
    }],
    "np.concatenate([x, x], axis=-1)": [cotan.concat([x, x], { axis: -1 }), [
      [1, 2, 3, 1, 2, 3],
      [4, 5, 6, 4, 5, 6],
    ]],
    "np.stack([x, x], axis=-1)[0]": [
      cotan.stack([x, x], { axis: -1 }).slice([[0, 1]]).squeeze(0),
      [[1, 1], [2, 2], [3, 3]],
    ],
    "np.stack([np.float32(1), np.float32(2)])": [
      cotan.stack([tensor(1), tensor(2)]),
      [1, 2],
    ],
    "np.tril(x, -1)": [x.tril({ k: -1 }), [[0, 0, 0], [4, 0, 0]]],
    "np.triu(x, 1)": [x.triu({ k: 1 }), [[0, 2, 3], [0, 0, 6]]],
    "np.split(x, [1, 1], axis=-1)[1]": [
      x.split([1, 0, 2], { axis: -1 })[1]!,
      [[], []],
    ],
    "np.matmul(np.ones((2, 3, 0)), np.ones((0, 4)))": [
      cotan.ones([2, 3, 0]).matmul(cotan.ones([0, 4])),
      zerosOf(2, 3, 4),
    ],
    "np.linspace(0, 0.7, 8)[-1:]": [
      cotan.linspace(0, 0.7, 8).slice([[-1, null]]),
      [Math.fround(0.7)],
    ],
    "np.linspace(3, 9, 1)": [cotan.linspace(3, 9, 1), [3]],
    "np.linspace(3, 9, 0)": [cotan.linspace(3, 9, 0), []],
    "np.arange(2, -2, -1.5)": [cotan.arange(-2, { start: 2, step: -1.5 }), [
      2,
      0.5,
      -1,
    ]],
  });
});

/** Zeros of a shape as nested arrays. */
function zerosOf(...[size, ...rest]: number[]): NestedArray {
  if (size === undefined) return 0;
  return Array.from({ length: size }, () => zerosOf(...rest));
}

throws("mod takes one dtype", DTypeError, [
  [
    () => f32(2).mod(i32(2)),
    "Cannot mod f32[2] and i32[2]: the dtypes differ; use cast",
  ],
]);

throws("what NumPy refuses is refused with the numbers", ShapeError, [
  [
    () => f32(2, 3).prod({ axis: 2 }),
    "Cannot prod f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).prod({ axis: [1, -1] }),
    "Cannot prod f32[2, 3]: axis 1 is named twice",
  ],
  [
    () => f32(2, 3).min({ axis: -3 }),
    "Cannot min f32[2, 3]: axis -3 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).mean({ axis: [0, 0] }),
    "Cannot take the mean of f32[2, 3]: axis 0 is named twice",
  ],
  [
    () => f32(2, 3).variance({ axis: 2 }),
    "Cannot take the variance of f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).logSumExp({ axis: 2 }),
    "Cannot take logSumExp of f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).softmax({ axis: 2 }),
    "Cannot take softmax of f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32().cumsum(),
    "Cannot cumsum f32[]: axis -1 is out of range, it has no axes",
  ],
  [
    () => f32(2).argsort({ axis: 1 }),
    "Cannot argsort f32[2]: axis 1 is out of range, axes go from -1 to 0",
  ],
  [
    () => f32(2).sort({ axis: -2 }),
    "Cannot sort f32[2]: axis -2 is out of range, axes go from -1 to 0",
  ],
  [
    () => f32(2, 3).topK(4).values,
    "Cannot take topK of f32[2, 3]: k is 4, and axis 1 has size 3",
  ],
  [
    () => f32(2, 0).min({ axis: 1 }),
    "Cannot take the smallest of f32[2, 0]: a reduced axis is empty",
  ],
  [
    () => f32(2, 0).argmin(),
    "Cannot take the argmin of f32[2, 0]: a reduced axis is empty",
  ],
  [
    () => i32(0).argmax(),
    "Cannot take the argmax of i32[0]: a reduced axis is empty",
  ],
  [
    () => cotan.iota([2], { axis: 1 }),
    "Cannot make iota of i32[2]: axis 1 is out of range, axes go from -1 to 0",
  ],
]);
