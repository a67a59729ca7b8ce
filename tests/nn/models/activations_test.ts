import { assertEquals, assertThrows } from "@std/assert";
import { FormatError, tensor } from "cotan";
import { activationOf } from "../../../nn/models/activations.ts";
import { assertClose, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

Deno.test("activations are those that Hugging Face's names mean", async () => {
  const x = tensor([-2, -0.5, 0, 1, 3]);
  const values = [-2, -0.5, 0, 1, 3];
  const tanhForm = (x: number) =>
    0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const formulas: Record<string, (x: number) => number> = {
    gelu_new: tanhForm,
    gelu_pytorch_tanh: tanhForm,
    gelu_fast: tanhForm,
    quick_gelu: (x) => x * sigmoid(1.702 * x),
    relu: (x) => Math.max(0, x),
    silu: (x) => x * sigmoid(x),
    swish: (x) => x * sigmoid(x),
    tanh: Math.tanh,
  };
  for (const [name, f] of Object.entries(formulas)) {
    await assertClose(activationOf(name)(x), values.map(f));
  }
  // x Φ(x), with Φ(1) = 0.8413447460685429.
  const [one] = await activationOf("gelu")(tensor([1])).data();
  assertEquals(one!.toFixed(12), "0.841344746069");
});

Deno.test("an activation of another name is an error that lists those there are", () => {
  assertThrows(
    () => activationOf("mish"),
    FormatError,
    'Cannot find the activation "mish": there are gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, relu, silu, swish, tanh',
  );
});
