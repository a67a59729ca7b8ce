/**
 * Errors of shapes, axes and sizes: thrown at the call, with exact texts.
 *
 * @module
 */

import * as cotan from "cotan";
import { ShapeError } from "cotan";
import { bind, fill } from "../../core/ops.ts";
import { bool, f32, i32, throws } from "../support/throws.ts";

throws(
  "shapes that do not broadcast are named with sizes and axis",
  ShapeError,
  [
    [
      () => f32(2, 3).add(f32(4)),
      "Cannot add f32[2, 3] and f32[4]: sizes 3 and 4 on axis -1 do not broadcast",
    ],
    [
      () => f32(2, 3).mul(f32(3, 3)),
      "Cannot mul f32[2, 3] and f32[3, 3]: sizes 2 and 3 on axis -2 do not broadcast",
    ],
    [
      () => f32(2).lt(f32(3)),
      "Cannot lt f32[2] and f32[3]: sizes 2 and 3 on axis -1 do not broadcast",
    ],
    [
      () => f32(2).gt(f32(3)),
      "Cannot gt f32[2] and f32[3]: sizes 2 and 3 on axis -1 do not broadcast",
    ],
    [
      () => f32(2).le(f32(3)),
      "Cannot le f32[2] and f32[3]: sizes 2 and 3 on axis -1 do not broadcast",
    ],
    [
      () => f32(2).ge(f32(3)),
      "Cannot ge f32[2] and f32[3]: sizes 2 and 3 on axis -1 do not broadcast",
    ],
    [
      () => f32(2).ne(f32(3)),
      "Cannot ne f32[2] and f32[3]: sizes 2 and 3 on axis -1 do not broadcast",
    ],
    [
      () => cotan.where(bool(2), f32(3), 0),
      "Cannot where bool[2] and f32[3]: sizes 2 and 3 on axis -1 do not broadcast",
    ],
    [
      () => f32(2).expand([3]),
      "Cannot expand f32[2] to [3]: only axes of size 1 and new leading axes expand",
    ],
    [
      () => f32(2, 1).expand([4]),
      "Cannot expand f32[2, 1] to [4]: only axes of size 1 and new leading axes expand",
    ],
  ],
);

throws("products whose sizes do not fit are named with both", ShapeError, [
  [
    () => f32(4, 8).matmul(f32(7, 16)),
    "Cannot matmul f32[4, 8] by f32[7, 16]: inner sizes 8 and 7 differ",
  ],
  [
    () => f32(4).matmul(f32(3, 2)),
    "Cannot matmul f32[4] by f32[3, 2]: inner sizes 4 and 3 differ",
  ],
  [
    () => f32(2, 4).matmul(f32(3)),
    "Cannot matmul f32[2, 4] by f32[3]: inner sizes 4 and 3 differ",
  ],
  [
    () => f32().matmul(f32(3)),
    "Cannot matmul f32[] by f32[3]: a scalar has no inner axis; use mul",
  ],
  [
    () => f32(2, 3, 4).matmul(f32(3, 4, 5)),
    "Cannot matmul f32[2, 3, 4] by f32[3, 4, 5]: the leading axes do not broadcast",
  ],
  [
    () => cotan.dot(f32(2, 2), f32(2)),
    "Cannot dot f32[2, 2] and f32[2]: both must be vectors; use matmul",
  ],
]);

throws("axes that are not there are named with those that are", ShapeError, [
  [
    () => f32(2, 3).sum({ axis: 2 }),
    "Cannot sum f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).max({ axis: [0, -3] }),
    "Cannot max f32[2, 3]: axis -3 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).sum({ axis: [0, -2] }),
    "Cannot sum f32[2, 3]: axis 0 is named twice",
  ],
  [
    () => f32().sum({ axis: 0 }),
    "Cannot sum f32[]: axis 0 is out of range, it has no axes",
  ],
  [
    () => f32(2).sum({ axis: 0.5 }),
    "Cannot sum f32[2]: axis 0.5 is out of range, axes go from -1 to 0",
  ],
  [
    () => f32(2, 3).argmax({ axis: 4 }),
    "Cannot argmax f32[2, 3]: axis 4 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).flip(5),
    "Cannot flip f32[2, 3]: axis 5 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).transpose([0, 2]),
    "Cannot transpose f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(2, 3).transpose([0, 0]),
    "Cannot transpose f32[2, 3] by [0, 0]: it must name each axis once",
  ],
  [() => f32(2, 3).squeeze(0), "Cannot squeeze f32[2, 3]: axis 0 has size 2"],
  [
    () => f32(2).unsqueeze(2),
    "Cannot unsqueeze f32[2, 1]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => f32(0, 2).max({ axis: 0 }),
    "Cannot take the largest of f32[0, 2]: a reduced axis is empty",
  ],
]);

throws("movements that do not fit are named with the numbers", ShapeError, [
  [
    () => f32(2, 3).reshape([4]),
    "Cannot reshape f32[2, 3] to [4]: 6 elements are not 4",
  ],
  [
    () => f32(2, 3).reshape([-1, -1]),
    "Cannot reshape f32[2, 3] to [-1, -1]: only one size may be -1",
  ],
  [
    () => f32(2, 3).reshape([4, -1]),
    "Cannot reshape f32[2, 3] to [4, -1]: 6 elements do not divide by 4",
  ],
  [
    () => f32(2).reshape([-2, -1]),
    "Cannot reshape to [-2, -1]: -2 is not a size",
  ],
  [
    () => f32(2).slice([null, null]),
    "Cannot slice f32[2] by 2 ranges: it has 1 axes",
  ],
  [
    () => f32(4).slice([[0, 4, 0]]),
    "Cannot slice f32[4] with step 0: a step is an integer other than 0",
  ],
  [
    () => f32(4).slice([[0.5, 4]]),
    "Cannot slice f32[4] at 0.5: a position is an integer",
  ],
  [
    () => f32(0, 2).reshape([0, -1]),
    "Cannot reshape f32[0, 2] to [0, -1]: beside a size of 0 any other would do for -1",
  ],
  [() => cotan.stack([]), "Cannot stack no tensors: pass one at least"],
  [
    () => cotan.stack([f32(2), f32(3)]),
    "Cannot stack f32[2] and f32[3]: the shapes differ",
  ],
  [
    () => f32(2).pad([[1, 1], [0, 0]]),
    "Cannot pad f32[2] by 2 margins: it has 1 axes",
  ],
  [
    () => f32(2).pad([[1, -1]]),
    "Cannot pad by [1, -1]: -1 is not a size",
  ],
  [() => f32(2).tile([-1]), "Cannot tile by [-1]: -1 is not a size"],
  [() => cotan.concat([]), "Cannot concat no tensors: pass one at least"],
  [
    () => cotan.concat([f32(2, 3), f32(2, 4)]),
    "Cannot concat f32[2, 3] and f32[2, 4] along axis 0: the other sizes differ",
  ],
  [
    () => cotan.concat([f32(2), f32(2, 1)]),
    "Cannot concat f32[2] and f32[2, 1] along axis 0: the other sizes differ",
  ],
  [
    () => f32(5).split([2, 2]),
    "Cannot split f32[5] along axis 0: the sizes add up to 4, not 5",
  ],
  [() => f32(3).tril(), "Cannot take a triangle of f32[3]: it needs two axes"],
  [
    () => f32(3, 2).gather(i32(3)),
    "Cannot gather f32[3, 2] by i32[3] along axis 0: all sizes but that axis must be equal",
  ],
  [
    () => f32(3).scatterAdd(i32(2), f32(4)),
    "Cannot scatterAdd f32[4] by index i32[2]: index and source differ in shape",
  ],
]);

throws("equations of einsum that make no sense are named", ShapeError, [
  [
    () => cotan.einsum("i->i->i", f32(2)),
    'Cannot einsum "i->i->i" of f32[2]: an equation has letters, commas, ... and one arrow',
  ],
  [
    () => cotan.einsum("i..", f32(2)),
    'Cannot einsum "i.." of f32[2]: an equation has letters, commas, ... and one arrow',
  ],
  [
    () => cotan.einsum("i,j->ij", f32(2)),
    'Cannot einsum "i,j->ij" of f32[2]: it names 2 operands, and there are 1',
  ],
  [
    () => cotan.einsum("ij->i", f32(2)),
    'Cannot einsum "ij->i" of f32[2]: "ij" names 2 axes of f32[2]',
  ],
  [
    () => cotan.einsum("ij,jk->ik", f32(2, 3), f32(4, 5)),
    'Cannot einsum "ij,jk->ik" of f32[2, 3], f32[4, 5]: j is 3 and 4',
  ],
  [
    () => cotan.einsum("i->ik", f32(2)),
    'Cannot einsum "i->ik" of f32[2]: no operand has the axis k',
  ],
  [
    () => cotan.einsum("i->ii", f32(2)),
    'Cannot einsum "i->ii" of f32[2]: the result has i twice',
  ],
]);

throws("primitives check their types themselves", ShapeError, [
  [
    () =>
      bind("expand", [fill({ shape: [2], dtype: "f32" }, 0)], { shape: [3] }),
    "Cannot expand f32[2] to [3]: only axes of size 1 expand",
  ],
  [
    () => f32(2).outer(f32(2, 2)),
    "Cannot take the outer product of f32[2] and f32[2, 2]: both must be vectors",
  ],
]);
