/**
 * Errors of dtypes, values, gradients and backends: thrown at the call, with exact texts.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as cotan from "cotan";
import {
  DeviceError,
  DisposedError,
  DTypeError,
  FormatError,
  init,
  invariant,
  ShapeError,
  tensor,
  TreeError,
  zeros,
} from "cotan";
import { bind, fill } from "../../core/ops.ts";
import { buildPlan } from "../../core/plan/plan.ts";
import { inFloat64 } from "../support/backends.ts";
import { bool, f32, i32, throws } from "../support/throws.ts";

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
    () => zeros(3 as never),
    "Cannot fill shape the number 3: a shape is an array of sizes",
  ],
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
  [
    () => cotan.arange(4, { step: 0 }),
    "Cannot make a range from 0 to 4 by steps of 0: its length would be Infinity",
  ],
  [
    () => cotan.linspace(0, 1, -1),
    "Cannot make linspace of shape [-1]: -1 is not a size",
  ],
  [
    () => cotan.eye(-1),
    "Cannot make eye of shape [-1, -1]: -1 is not a size",
  ],
  [
    () => i32(2).oneHot(-1),
    "Cannot take oneHot of [-1]: -1 is not a size",
  ],
  [() => zeros([2, -1]), "Cannot fill shape [2, -1]: -1 is not a size"],
  [
    () => cotan.random.uniform(cotan.random.key(0), [1.5]),
    "Cannot draw random numbers of shape [1.5]: 1.5 is not a size",
  ],
]);

throws("values and dtypes that no tensor has are named", DTypeError, [
  ...([
    [null, "null"],
    ["abc", "the string abc"],
    [[1, undefined], "undefined"],
    [[1n], "the bigint 1"],
  ] as const).map(([value, found]) =>
    [
      () => tensor(value as never),
      `Cannot make a tensor of ${found}: elements are numbers or booleans`,
    ] as const
  ),
  ...[
    () => tensor([1], { dtype: "f64" as never }),
    () => zeros([1], { dtype: "f64" as never }),
    () => cotan.iota([1], { dtype: "f64" as never }),
    () => f32(1).cast("f64" as never),
  ].map((call) =>
    [
      call,
      "Cannot make a tensor of dtype f64: there are f32, f16, bf16, i32, u32 and bool",
    ] as const
  ),
]);

throws("what is no tensor is named where one is expected", TypeError, [
  [
    () => cotan.exp(3 as never),
    "Cannot use the number 3 here: a tensor is expected",
  ],
  [
    () => cotan.random.uniform(0 as never, [2]),
    "Cannot use the number 0 here: a tensor is expected",
  ],
  [
    () => f32(2).add([1, 2] as never),
    "Cannot add f32[2] and an Array: operands are tensors and numbers; use tensor()",
  ],
  [
    () => f32(2).mul(undefined as never),
    "Cannot mul f32[2] and undefined: operands are tensors and numbers; use tensor()",
  ],
  [
    () => f32(2).lt("1" as never),
    "Cannot lt f32[2] and the string 1: operands are tensors and numbers; use tensor()",
  ],
  [
    () => cotan.where(bool(2), f32(2), null as never),
    "Cannot where f32[2] and null: operands are tensors and numbers; use tensor()",
  ],
  [
    () => f32(2, 2).matmul(2 as never),
    "Cannot matmul f32[2, 2] by the number 2: both must be f32; use cast",
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

inFloat64("item takes exactly one element", () => {
  for (const [x, count] of [[f32(2), 2], [f32(0), 0]] as const) {
    const error = assertThrows(() => x.item(), RangeError);
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

Deno.test("a state that cannot be is a bug of ours", () => {
  invariant(true, "fine");
  const error = assertThrows(() => invariant(null, "nothing holds"), Error);
  assertEquals(error.message, "Cotan has a bug: nothing holds");
});

inFloat64("a value beyond the buffers of a device is named", () => {
  const x = fill({ shape: [100], dtype: "f32" }, 1);
  const sums = bind("matmul", [
    bind(
      "reshape",
      [bind("iota", [], { shape: [100], dtype: "f32", axis: 0 })],
      {
        shape: [100, 1],
      },
    ),
    bind("reshape", [bind("exp", [x], {})], { shape: [1, 100] }),
  ], {});
  const outputs = [bind("matmul", [sums, sums], {})];
  const limits = {
    buffersPerKernel: 8,
    buffersPerLaunch: 8,
    bytesPerBuffer: 1024,
    bytesPerBinding: 1024,
    alignment: 256,
  };
  const error = assertThrows(
    () => buildPlan({ inputs: [], outputs }, [], limits),
    DeviceError,
  );
  assertEquals(
    error.message,
    "Cannot allocate f32[100, 100]: it takes 39.1 KiB, and a buffer has at most 1 KiB",
  );
});

Deno.test("a machine without a GPU is told which backend it has", async () => {
  const { requestAdapter } = navigator.gpu;
  navigator.gpu.requestAdapter = () => Promise.resolve(null);
  try {
    const error = await init({ backend: "webgpu" }).catch((error) => error);
    assert(error instanceof DeviceError);
    assertEquals(
      error.message,
      "Cannot open WebGPU: there is no adapter; use the backend wasm",
    );
    using auto = await init();
    assertEquals(auto.name, "wasm");
  } finally {
    navigator.gpu.requestAdapter = requestAdapter;
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
    ...[0, 1.5].map((threads): typeof cases[number] => [
      { backend: "wasm", threads },
      `Cannot compute on ${threads} threads: their number is 1, which means no workers, or more`,
    ]),
    ...[["true", true], ['""', ""], ["null", null]].map((
      [shown, blas],
    ): typeof cases[number] => [
      { backend: "wasm", blas: blas as string },
      `Cannot use the BLAS ${shown}: it is the path of a library, "auto", or false`,
    ]),
  ];
  for (const [options, text] of cases) {
    const error = await init(options).then(() => null, (error) => error);
    assert(error instanceof DeviceError);
    assertEquals(error.message, text);
  }
});
