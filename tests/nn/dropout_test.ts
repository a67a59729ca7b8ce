import {
  assert,
  assertEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { grad, ones, random } from "cotan";
import { dropout } from "cotan/nn";
import { useOracle } from "./support.ts";

Deno.test.beforeAll(useOracle);

Deno.test("dropout keeps a share of 1 - rate and divides it by that", async () => {
  const rate = 0.25, size = 10000;
  const y = await dropout(ones([size]), { rate, key: random.key(3) }).data();
  const kept = y.filter((v) => v !== 0);
  assert(kept.every((v) => v === 1 / 0.75));
  // Five standard deviations of the share.
  const deviation = Math.sqrt(rate * (1 - rate) / size);
  assert(Math.abs(kept.length / size - 0.75) < 5 * deviation);
});

Deno.test("one key drops the same elements again, also in the gradient", async () => {
  const options = { rate: 0.5, key: random.key(3) };
  const f = (x: ReturnType<typeof ones>) => dropout(x, options);
  const y = await f(ones([50])).data();
  assertEquals(await f(ones([50])).data(), y);
  assertEquals(await grad((x) => f(x).sum())(ones([50])).data(), y);
});

Deno.test("without a key, or at rate 0, dropout returns what it is given", () => {
  const x = ones([3]);
  assertStrictEquals(dropout(x, { rate: 0.5 }), x);
  assertStrictEquals(dropout(x, { rate: 0, key: random.key(1) }), x);
});

Deno.test("a rate outside [0, 1) is an error", () => {
  for (const rate of [1, -0.1, NaN]) {
    assertThrows(
      () => dropout(ones([3]), { rate, key: random.key(1) }),
      RangeError,
      `Cannot drop at rate ${rate}: it must be at least 0 and below 1`,
    );
  }
});
