/**
 * Errors of functions that cannot be transformed: what they return, what they do to tensors, what they are given.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import {
  checkpoint,
  customVjp,
  DTypeError,
  grad,
  hvp,
  jacobian,
  jit,
  jvp,
  memory,
  ones,
  scan,
  ShapeError,
  type Tensor,
  tensor,
  TreeError,
  valueAndGradAux,
  vjp,
  vmap,
} from "cotan";
import { inFloat64 } from "../support/backends.ts";
import { f32, i32, throws } from "../support/throws.ts";

/** A loss that TypeScript would not take. */
const returns = (value: unknown) => () => value as Tensor;
const scalar = "the loss must be a scalar f32; reduce it with sum() or mean()";
const async =
  "it is async, and what it does after an await is out of sight; await outside of it";
const tree =
  "leaves are tensors, nodes are plain records and arrays, null is a hole";

class Box {}

/** A rule that gives what TypeScript would not take. */
const rule = (forward: unknown, backward: unknown) => ({
  fwd: () => forward,
  bwd: () => backward,
});

throws("a loss that is no scalar is named", ShapeError, [
  ...([
    [() => f32(3), "f32[3]"],
    [() => i32(), "i32[]"],
    [returns(undefined), "undefined"],
    [returns(null), "null"],
    [returns(3), "the number 3"],
    [returns([1]), "an Array"],
    [returns(new Box()), "a Box"],
    [returns(() => 1), "a function"],
  ] as [() => Tensor, string][]).map(([f, found]) =>
    [
      () => grad(f)(f32(3)),
      `Cannot differentiate a function that returns ${found}: ${scalar}`,
    ] as const
  ),
  [
    () => valueAndGradAux(() => ({ loss: f32(2), aux: null }))(f32()),
    `Cannot differentiate a function that returns f32[2]: ${scalar}`,
  ],
  [
    () => hvp((x) => x.square(), [f32(2)], [f32(2)]),
    `Cannot differentiate a function that returns f32[2]: ${scalar}`,
  ],
]);

throws("what cannot be differentiated by is named", DTypeError, [
  [
    () => grad((x: Tensor) => x.sum())(i32(2)),
    "Cannot differentiate by i32[2]: only f32 has a gradient; pass it as another argument",
  ],
  [
    () => grad(({ ids }: { ids: Tensor }) => ids.sum())({ ids: i32(2) }),
    "Cannot differentiate by i32[2] at ids: only f32 has a gradient; pass it as another argument",
  ],
  [
    () => jvp((x) => x.exp(), [f32(2)], [f32(1)]),
    "Cannot take f32[1] as tangent at 0: it must be f32[2]",
  ],
  [
    () => vjp((x) => x.exp(), f32(2)).pullback(i32(2)),
    "Cannot take i32[2] as cotangent: it must be f32[2]",
  ],
]);

throws("trees that do not fit are named", TreeError, [
  [
    () => grad(() => f32())({ w: null } as never),
    "Cannot differentiate by a tree without tensors: the first argument holds none; see what is trainable",
  ],
  [
    () => jvp((x) => x.exp(), [f32(2)], [] as never),
    "Cannot take a tangent of 0 leaves: 1 are expected",
  ],
  [
    () => valueAndGradAux(returns(f32()) as never)(f32()),
    "Cannot differentiate a function that returns a Tensor: it must return { loss, aux }",
  ],
  [
    () => valueAndGradAux(returns(undefined) as never)(f32()),
    "Cannot differentiate a function that returns undefined: it must return { loss, aux }",
  ],
  [
    () => scan(returns(undefined) as never, f32(), null, { length: 2 }),
    "Cannot scan with a step that returns undefined: it must return { carry, y }",
  ],
  [
    () =>
      scan((carry) => ({ carry, y: 3 as never }), f32(), null, { length: 2 }),
    `Cannot use the number 3 in what a step returns: ${tree}`,
  ],
  [
    () =>
      scan((carry) => ({ carry: 3 as never, y: carry }), f32(), null, {
        length: 2,
      }),
    `Cannot use the number 3 in what a step returns: ${tree}`,
  ],
  [
    () => vmap(returns(3) as never)(f32(2)),
    `Cannot use the number 3 in what a function returns: ${tree}`,
  ],
  [
    () => checkpoint(returns(3) as never)(f32(2)),
    `Cannot use the number 3 in what a function returns: ${tree}`,
  ],
  [
    () => jacobian((x) => x)({ x: f32(2) } as never),
    "Cannot differentiate by an Object: it must be one f32 tensor",
  ],
  [
    () => grad(customVjp((x) => x, rule(f32(), null) as never))(f32()),
    "Cannot take a Tensor from fwd: it must return { out, residuals }",
  ],
  [
    () =>
      grad(
        customVjp(
          (x) => x,
          rule({ out: null, residuals: null }, f32()) as never,
        ),
      )(f32()),
    "Cannot take a Tensor from bwd: it must return an array of cotangents",
  ],
]);

inFloat64("a result that is no tree is named with its place", () => {
  const cases: [unknown, string][] = [
    [3, `Cannot use the number 3 in what f returns: ${tree}`],
    ["x", `Cannot use the string x in what f returns: ${tree}`],
    [() => 1, `Cannot use a function in what f returns: ${tree}`],
    [{ a: [new Box()] }, `Cannot use a Box at a.0 in what f returns: ${tree}`],
  ];
  for (const [value, text] of cases) {
    using f = jit(returns(value), { name: "f" });
    assertEquals(assertThrows(() => f(), TreeError).message, text);
  }
  assertEquals(
    assertThrows(() => vjp(returns(3)), TreeError).message,
    `Cannot use the number 3 in what a function returns: ${tree}`,
  );
  assertEquals(memory().programs, 0);
});

inFloat64("an async function is told to await outside", async () => {
  const later = async (x: Tensor): Promise<Tensor> =>
    x.mul(await x.sum().item());
  const f = later as unknown as (x: Tensor) => Tensor;
  const cases: [() => unknown, string][] = [
    [() => jit(f)(ones([2])), `Cannot trace later: ${async}`],
    [() => grad(f)(ones([2])), `Cannot trace a loss: ${async}`],
    [
      () => valueAndGradAux(f as never)(ones([2])),
      `Cannot trace a loss: ${async}`,
    ],
    [() => vjp(f, ones([2])), `Cannot trace a function: ${async}`],
    [
      () => jvp(f, [ones([2])], [ones([2])]),
      `Cannot trace a function: ${async}`,
    ],
    [() => vmap(f)(ones([2])), `Cannot trace a function: ${async}`],
    [() => checkpoint(f)(ones([2])), `Cannot trace a function: ${async}`],
    [
      () => scan(f as never, ones([2]), null, { length: 2 }),
      `Cannot trace a step: ${async}`,
    ],
  ];
  for (const [call, text] of cases) {
    assertEquals(assertThrows(call, TypeError).message, text);
  }
  // What the promises fail of would end the process.
  await new Promise((resolve) => setTimeout(resolve));
});

inFloat64("a traced function cannot dispose of its arguments", () => {
  const text =
    "Cannot dispose of f32[2] in a function that is traced: it is an argument, which the caller owns; donate it to jit, or dispose of it after the call";
  const loss = (x: Tensor): Tensor => {
    using _ = x;
    return x.sum();
  };
  for (const f of [jit(loss), grad(loss), jit(grad(loss))]) {
    using x = ones([2]);
    assertEquals(assertThrows(() => f(x), TypeError).message, text);
  }
  // What the function makes itself may be disposed of as it would be outside.
  using sum = jit((x: Tensor) => {
    using y = x.exp();
    return y.sum();
  });
  sum(ones([2]));
});

inFloat64(
  "a closed-over tensor that the function disposes of is named at the call",
  () => {
    const cases: ((f: (x: Tensor) => Tensor) => void)[] = [
      (f) => jit(f)(ones([2])),
      (f) => grad(f)(ones([2])),
    ];
    for (const call of cases) {
      const w = tensor([1, 2]);
      const f = (x: Tensor): Tensor => {
        const y = x.mul(w).sum();
        w.dispose();
        return y;
      };
      assertEquals(
        assertThrows(() => call(f), ReferenceError).message,
        "Cannot use f32[2]: it was disposed of",
      );
    }
  },
);

inFloat64("what a function that fails has made is freed", () => {
  const before = memory().tensors;
  using f = jit((x: Tensor) => {
    ones([3]);
    const made = tensor([1, 2]);
    tensor([5]);
    return x.mul(made) && 3 as unknown as Tensor;
  });
  using x = ones([2]);
  assertThrows(() => f(x), TreeError);
  assertEquals(memory().tensors, before + 1);
});

throws("a tensor is not taken for a number", TypeError, [
  [
    () => ones([2]) as unknown as number > 0,
    "Cannot take f32[2] for a number: its value is not known here; use gt, add or where, or await item()",
  ],
  [
    () => (ones([]) as unknown as number) + 1,
    "Cannot take f32[] for a number: its value is not known here; use gt, add or where, or await item()",
  ],
]);

inFloat64("the shape of a tensor cannot be changed", () => {
  const shape = [2, 3];
  const x = ones(shape);
  assertThrows(() => (x.shape as number[])[0] = 9, TypeError);
  shape[0] = 9;
  assertEquals(x.shape, [2, 3]);
});

inFloat64("what is donated must be an argument", () => {
  using f = jit((x: Tensor) => x.exp(), { donate: [1], name: "f" });
  assertEquals(
    assertThrows(() => f(ones([2])), RangeError).message,
    "Cannot donate argument 1 of f: it was called with 1",
  );
});
