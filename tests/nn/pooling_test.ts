import { assert, assertEquals } from "@std/assert";
import { grad, ShapeError, type Tensor, tensor, zeros } from "cotan";
import { firstToken, meanPool, normalize, pooler } from "cotan/nn";
import { checkGrads } from "cotan/testing";
import { f32, i32, throws } from "../support/throws.ts";
import { assertClose, ids, useOracle, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

const mask = [[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]];

Deno.test("the mean is over real tokens, and 0 where there is none", async () => {
  const hidden = varied([3, 4, 2]);
  const x = await hidden.data();
  const expected = mask.flatMap((row, b) =>
    [0, 1].map((c) => {
      const real = row.flatMap((m, t) => m ? [x[(b * 4 + t) * 2 + c]!] : []);
      return real.reduce((a, b) => a + b, 0) / Math.max(1, real.length);
    })
  );
  for (const dtype of ["i32", "f32", "bool"] as const) {
    const pooled = meanPool(hidden, ids(mask).cast(dtype));
    await assertClose(pooled, expected, { shape: [3, 2] });
  }
  const all = await hidden.mean({ axis: 1 }).data();
  await assertClose(meanPool(hidden), all, { shape: [3, 2] });
});

Deno.test("what padding holds does not matter, even if it is infinite", async () => {
  const hidden = tensor([[[1], [Infinity]], [[NaN], [3]]]);
  const pooled = meanPool(hidden, ids([[1, 0], [0, 1]]));
  assertEquals(await pooled.toArray(), [[1], [3]]);
});

Deno.test("the pooler reads the first token alone", async () => {
  const hidden = varied([2, 3, 2]),
    dense = {
      weight: varied([2, 2], 2),
      bias: varied([2], 3),
    };
  const first = hidden.slice([null, [0, 1]]).reshape([2, 2]);
  assertEquals(await firstToken(hidden).data(), await first.data());
  const expected = first.matmul(dense.weight.transpose()).add(dense.bias)
    .tanh();
  await assertClose(pooler({ dense }, hidden), await expected.data());
});

Deno.test("normalized vectors have length 1, and 0 stays 0 with a finite gradient", async () => {
  const unit = normalize(varied([3, 4]));
  const lengths = unit.square().sum({ axis: -1 });
  await assertClose(lengths, [1, 1, 1]);
  assertEquals(await normalize(zeros([2])).toArray(), [0, 0]);
  const slope = grad((x: Tensor) => normalize(x).sum())(zeros([2]));
  assert((await slope.data()).every(Number.isFinite));
  await assertClose(normalize(tensor([3, 4]), { eps: 10 }), [0.3, 0.4]);
});

Deno.test("gradients of pooling are those of finite differences", async () => {
  await checkGrads(
    (x: Tensor) => normalize(meanPool(x, ids(mask))).square().sum(),
    [varied([3, 4, 2])],
  );
});

throws("shapes that do not fit are errors", ShapeError, [
  [
    () => meanPool(f32(2, 3), i32(2, 3)),
    "Cannot pool f32[2, 3]: hidden states are [batch, time, channels]",
  ],
  [
    () => meanPool(f32(2, 3, 4), i32(2, 4)),
    "Cannot pool f32[2, 3, 4]: the mask is i32[2, 4], and must be [2, 3]",
  ],
  [
    () => firstToken(f32(2)),
    "Cannot pool f32[2]: hidden states are [batch, time, channels]",
  ],
]);
