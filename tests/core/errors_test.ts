/**
 * Errors of operations: thrown at the call, with exact texts.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as cotan from "cotan";
import {
  DeviceError,
  DisposedError,
  DTypeError,
  FormatError,
  init,
  ShapeError,
  type Tensor,
  tensor,
  TreeError,
  zeros,
} from "cotan";
import { inFloat64 } from "../support/backends.ts";

type Case = readonly [call: () => unknown, text: string];

const f32 = (...shape: number[]): Tensor => zeros(shape);
const i32 = (...shape: number[]): Tensor => zeros(shape, { dtype: "i32" });
const bool = (...shape: number[]): Tensor => zeros(shape, { dtype: "bool" });

/** Registers a test that each call throws an error of a class with an exact text, at the line of the call. */
function throws(
  name: string,
  type: new (...args: never[]) => Error,
  cases: readonly Case[],
): void {
  inFloat64(name, () => {
    for (const [call, text] of cases) {
      const error = assertThrows(call, type);
      assertEquals(error.message, text);
      assert(error.stack!.includes("errors_test.ts"), "the stack ends early");
      // The same while a function is traced.
      const traced = assertThrows(
        () => cotan.jit(() => call() as Tensor)(),
        type,
      );
      assertEquals(traced.message, text);
    }
  });
}

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
    () => f32(4).slice([[0, 4, -1]]),
    "Cannot slice f32[4] with step -1: steps are positive; use flip to reverse",
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

throws(
  "dtypes that do not fit are named with the cast that would help",
  DTypeError,
  [
    [
      () => f32(2).add(i32(2)),
      "Cannot add f32[2] and i32[2]: the dtypes differ; use cast",
    ],
    [
      () => bool(2).add(bool(2)),
      "Cannot add bool[2]: it must be a number; use cast",
    ],
    [
      () => i32(2).add(0.5),
      "Cannot add the number 0.5 and a tensor of i32: it is no integer; use cast",
    ],
    [() => cotan.add(1, 2), "Cannot add numbers alone: pass a tensor"],
    [() => i32(2).exp(), "Cannot exp i32[2]: it must be f32; use cast"],
    [
      () => bool(2).neg(),
      "Cannot neg bool[2]: it must be f32 or i32; use cast",
    ],
    [() => f32(2).not(), "Cannot not f32[2]: it must be bool; use cast"],
    [() => f32(2).and(f32(2)), "Cannot and f32[2]: it must be bool; use cast"],
    [
      () => cotan.where(f32(2), 1, 0),
      "Cannot select by f32[2]: it must be bool; compare it first",
    ],
    [
      () => cotan.where(bool(2), f32(2), i32(2)),
      "Cannot where f32[2] and i32[2]: the dtypes differ; use cast",
    ],
    [
      () => i32(2, 2).matmul(f32(2, 2)),
      "Cannot matmul i32[2, 2] by f32[2, 2]: both must be f32; use cast",
    ],
    [() => bool(2).sum(), "Cannot sum bool[2]: it must be a number; use cast"],
    [
      () => i32(2).mean(),
      "Cannot take the mean of i32[2]: it must be f32; use cast",
    ],
    [
      () => i32(2).softmax(),
      "Cannot take softmax of i32[2]: it must be f32; use cast",
    ],
    [
      () => i32(2).logSoftmax(),
      "Cannot take logSoftmax of i32[2]: it must be f32; use cast",
    ],
    [
      () => cotan.concat([f32(2), i32(2)]),
      "Cannot concat f32[2] and i32[2]: the dtypes differ; use cast",
    ],
    [
      () => f32(3).gather(f32(3)),
      "Cannot gather f32[3] by f32[3]: an index is i32",
    ],
    [
      () => f32(3).take(f32(3)),
      "Cannot gather f32[3] by f32[3]: an index is i32",
    ],
    [
      () => f32(3).scatterAdd(i32(2), i32(2)),
      "Cannot scatterAdd f32[3] and i32[2]: the dtypes differ; use cast",
    ],
  ],
);

throws("values that make no tensor are named with what is wrong", ShapeError, [
  [
    () => tensor([[1, 2], [3]]),
    "Cannot make a tensor of a ragged array: at depth 1 a length is 1, and the first has shape [2, 2]",
  ],
  [
    () => tensor([[1, 2], 3]),
    "Cannot make a tensor of a ragged array: at depth 1 there is a number, and the first has shape [2, 2]",
  ],
  [
    () => tensor([1, 2, 3], { shape: [2, 2] }),
    "Cannot make a tensor of shape [2, 2] from 3 elements: it takes 4",
  ],
  [() => zeros([2, -1]), "Cannot fill shape [2, -1]: -1 is not a size"],
  [
    () => cotan.random.uniform(cotan.random.key(0), [1.5]),
    "Cannot draw random numbers of shape [1.5]: 1.5 is not a size",
  ],
]);

throws("what cannot be differentiated is named", DTypeError, [
  [
    () => cotan.grad((x: Tensor) => x.sum())(i32(2)),
    "Cannot differentiate by i32[2]: only f32 has a gradient; pass it as another argument",
  ],
  [
    () => cotan.grad(({ ids }: { ids: Tensor }) => ids.sum())({ ids: i32(2) }),
    "Cannot differentiate by i32[2] at ids: only f32 has a gradient; pass it as another argument",
  ],
]);

throws("a loss that is no scalar is named", ShapeError, [
  [
    () => cotan.grad((x: Tensor) => x.mul(2))(f32(3)),
    "Cannot differentiate a function that returns f32[3]: the loss must be a scalar f32; reduce it with sum() or mean()",
  ],
  [
    () => cotan.grad(() => 3 as unknown as Tensor)(f32(3)),
    "Cannot differentiate a function that returns number: the loss must be a scalar f32; reduce it with sum() or mean()",
  ],
]);

throws("keys and draws that make no sense are named", RangeError, [
  [
    () => cotan.random.key(-1),
    "Cannot make a key from -1: a seed is an integer from 0 to 2^53 - 1",
  ],
  [
    () => cotan.random.key(0.5),
    "Cannot make a key from 0.5: a seed is an integer from 0 to 2^53 - 1",
  ],
  [
    () => cotan.random.randint(cotan.random.key(0), [2], { low: 3, high: 3 }),
    "Cannot draw integers from 3 up to 3: both must be integers, high above low",
  ],
]);

throws("a key of another type is named", DTypeError, [
  [
    () => cotan.random.uniform(f32(2), [2]),
    "Cannot draw from f32[2]: a key is u32[2], as random.key(seed) makes it",
  ],
  [
    () => cotan.random.categorical(cotan.random.key(0), i32(2)),
    "Cannot draw from i32[2]: logits are f32; use cast",
  ],
]);

inFloat64("item takes exactly one element", async () => {
  for (const [x, count] of [[f32(2), 2], [f32(0), 0]] as const) {
    const error = await assertRejects(() => x.item(), RangeError);
    assertEquals(
      error.message,
      `Cannot take item() of ${x}: it has ${count} elements; use data()`,
    );
  }
});

Deno.test("errors are of the classes that JavaScript has for them", () => {
  const classes = [
    [ShapeError, RangeError],
    [DTypeError, TypeError],
    [TreeError, TypeError],
    [DisposedError, ReferenceError],
    [DeviceError, Error],
    [FormatError, Error],
  ] as const;
  for (const [type, parent] of classes) {
    const error = new type("why", { cause: 1 });
    assert(error instanceof parent);
    assertEquals([error.name, error.message, error.cause], [
      type.name,
      "why",
      1,
    ]);
  }
});

Deno.test("a backend that cannot be opened is named", async () => {
  const cases: [Parameters<typeof init>[0], string][] = [
    [
      { backend: "wasm", precision: "f64" },
      "Cannot compute in f64 on wasm: only the reference backend can",
    ],
    [
      { backend: "cuda" as "wasm" },
      'Cannot open the backend "cuda": there are webgpu, wasm and reference',
    ],
  ];
  for (const [options, text] of cases) {
    const error = await init(options).then(() => null, (error) => error);
    assert(error instanceof DeviceError);
    assertEquals(error.message, text);
  }
});
