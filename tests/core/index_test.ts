/**
 * Slices and indexing as Python and NumPy have them: each case is named by the expression there.
 *
 * @module
 */

import * as cotan from "cotan";
import { DTypeError, grad, ShapeError, type Tensor, tensor } from "cotan";
import { eachBackend } from "../support/backends.ts";
import { assertRows } from "../support/rows.ts";
import { f32, i32, throws } from "../support/throws.ts";

const ids = (...values: number[]): Tensor => tensor(values, { dtype: "i32" });

eachBackend("slices are those of Python", async () => {
  const x = cotan.arange(5), y = cotan.arange(6).reshape([2, 3]);
  const e = cotan.zeros([0]);
  await assertRows({
    "x[1:-1]": [x.slice([[1, -1]]), [1, 2, 3]],
    "x[-3:99]": [x.slice([[-3, 99]]), [2, 3, 4]],
    "x[-99:2]": [x.slice([[-99, 2]]), [0, 1]],
    "x[3:1]": [x.slice([[3, 1]]), []],
    "x[7:9]": [x.slice([[7, 9]]), []],
    "x[::2]": [x.slice([[null, null, 2]]), [0, 2, 4]],
    "x[1::3]": [x.slice([[1, null, 3]]), [1, 4]],
    "x[::-1]": [x.slice([[null, null, -1]]), [4, 3, 2, 1, 0]],
    "x[-1:0:-2]": [x.slice([[-1, 0, -2]]), [4, 2]],
    "x[3::-3]": [x.slice([[3, null, -3]]), [3, 0]],
    "x[:1:-1]": [x.slice([[null, 1, -1]]), [4, 3, 2]],
    "x[0:3:-1]": [x.slice([[0, 3, -1]]), []],
    "x[99:-99:-4]": [x.slice([[99, -99, -4]]), [4, 0]],
    "x[-99:-1:-1]": [x.slice([[-99, -1, -1]]), []],
    "y[::-1, 2:0:-1]": [y.slice([[null, null, -1], [2, 0, -1]]), [
      [5, 4],
      [2, 1],
    ]],
    "y[:, ::2]": [y.slice([null, [null, null, 2]]), [[0, 2], [3, 5]]],
    "e[::-1]": [e.slice([[null, null, -1]]), []],
  });
});

eachBackend("brackets index as NumPy's", async () => {
  const y = cotan.arange(6).reshape([2, 3]);
  const z = cotan.arange(24).reshape([2, 3, 4]);
  const i = ids(1, 0), j = ids(-1, 0);
  const column = tensor([[0], [1]], { dtype: "i32" });
  const one = tensor(1, { dtype: "i32" });
  await assertRows({
    "y[1]": [y.index([1]), [3, 4, 5]],
    "y[-1, -2]": [y.index([-1, -2]), 4],
    "y[:, 1]": [y.index([null, 1]), [1, 4]],
    "y[0, ::-1]": [y.index([0, [null, null, -1]]), [2, 1, 0]],
    "y[[]]": [y.index([ids()]), { shape: [0, 3] }],
    "y[i]": [y.index([i]), [[3, 4, 5], [0, 1, 2]]],
    "y[:, j]": [y.index([null, j]), [[2, 0], [5, 3]]],
    "y[i, j]": [y.index([i, j]), [5, 0]],
    "y[column, j]": [y.index([column, j]), [[2, 0], [5, 3]]],
    "y[one]": [y.index([one]), [3, 4, 5]],
    "z[:, i, j]": [z.index([null, i, j]), [[7, 0], [19, 12]]],
    "z[i, :, j]": [z.index([i, null, j]), [[15, 19, 23], [0, 4, 8]]],
    "z[i, 1:, 2]": [z.index([i, [1, null], 2]), [[18, 22], [6, 10]]],
    "z[..., column]": [
      z.index([null, null, column]).slice([[0, 1], [0, 1]]).reshape([2, 1]),
      [[0], [1]],
    ],
    "z[1, 2, 3]": [z.index([1, 2, 3]), 23],
    "z[()]": [z.index([]), { shape: [2, 3, 4] }],
  });
});

eachBackend(
  "indexing, slicing backwards and clip have the gradients of what they take",
  async () => {
    const x = tensor([[1, 2, 3], [4, 5, 6]]), i = ids(1, 1, -2);
    const weights = tensor([1, 10, 100]);
    const slope = (f: (x: Tensor) => Tensor): Tensor =>
      grad((x) => f(x).mul(weights).sum())(x);
    await assertRows({
      "x[i, 2]": [slope((x) => x.index([i, 2])), [[0, 0, 100], [0, 0, 11]]],
      "x[0, ::-1]": [
        slope((x) => x.index([0, [null, null, -1]])),
        [[100, 10, 1], [0, 0, 0]],
      ],
      "np.clip(x[1], 4, 5)": [
        slope((x) => x.index([1]).clip(4, 5)),
        [[0, 0, 0], [1, 10, 0]],
      ],
    });
  },
);

throws("a tensor that indexes is i32", DTypeError, [
  [
    () => f32(3).index([f32(2)]),
    "Cannot index by f32[2]: it must be i32; use cast",
  ],
]);

throws("what is not there is named with what is", ShapeError, [
  [
    () => f32(2, 3).index([2]),
    "Cannot index f32[2, 3] at 2: axis 0 goes from -2 to 1",
  ],
  [
    () => f32(2, 3).index([null, -4]),
    "Cannot index f32[2, 3] at -4: axis 1 goes from -3 to 2",
  ],
  [
    () => f32(2).index([0, 0]),
    "Cannot index f32[2] by 2 items: it has 1 axes",
  ],
  [
    () => f32(0, 3).take(i32(2)),
    "Cannot take from f32[0, 3] along axis 0: it is empty, and the index i32[2, 3] is not",
  ],
  [
    () => f32(2, 0).gather(i32(2, 1), { axis: 1 }),
    "Cannot gather from f32[2, 0] along axis 1: it is empty, and the index i32[2, 1] is not",
  ],
  [
    () => f32(0).scatterAdd(i32(1), f32(1)),
    "Cannot scatterAdd into f32[0] along axis 0: it is empty, and the index i32[1] is not",
  ],
  [
    () => f32(0, 3).index([i32(2)]),
    "Cannot take from f32[0, 3] along axis 0: it is empty, and the index i32[2, 3] is not",
  ],
]);
