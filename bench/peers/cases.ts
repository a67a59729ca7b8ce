/**
 * The workloads that Cotan and its peers are measured on, and the numbers that PyTorch got for each.
 *
 * - W1: products of matrices, square or as thin as LoRA's.
 * - W2: the sum over rows of GELU (tanh) of x · y + z, f32[4096, 1024]; softmax of 4,096 rows of 512; layer norm of 4,096
 *   rows of 768.
 * - W3: gradients of a pre-LN block's input and parameters: 4 rows of 128 tokens, 256 channels, 8 heads, 1,024 inside.
 * - W4: a step of a GPT by AdamW, 1,024 tokens.
 * - W5: a LoRA step of it, with rank 8 and alpha 16 on queries and values; one of GPT-2 small, 64 tokens; and a step of
 *   GPT-2 small by AdamW.
 * - W6: a token by GPT-2 small, greedily, behind a prompt of 16; in bf16 its weights are stored so.
 *
 * @module
 */

/**
 * What a workload must give. Of tensors these are the first and the last element and the root of the mean square (of W3
 * those of the gradients of x and of the queries' weight); of training the losses, each before its update; of
 * generation the ids.
 */
export const EXPECTED = {
  "W1 256": [-6.280757, 4.798617, 5.357439],
  "W1 512": [7.577595, 2.715976, 7.543581],
  "W1 1024": [-7.16568, -3.641025, 10.66637],
  "W1 2048": [16.64988, 23.64912, 15.07833],
  "W1 512x768x8": [-0.6764137, -2.39193, 9.179768],
  "W1 512x8x768": [0.09951559, -1.941116, 0.9391285],
  "W2 gelu-sum": [675.3998, 557.1187, 633.9501],
  "W2 softmax": [0.005919829, 1.114253e-5, 0.003908484],
  "W2 layer-norm": [0.7988448, 1.277476, 0.8174906],
  // deno-fmt-ignore
  "W3 gradients": [0.8073051, -0.3880098, 0.5891905, 0.1434058, 0.07521466, 0.07904356],
  // deno-fmt-ignore
  "W4 step": [6.261309, 6.007405, 5.882946, 5.714163, 5.615514, 5.495849, 5.385792, 5.287510, 5.189567, 5.093850, 4.995243],
  // deno-fmt-ignore
  "W5 small": [6.261309, 6.258063, 6.254395, 6.250249, 6.245638, 6.240618, 6.235288, 6.229782, 6.224248, 6.218828, 6.213630],
  // deno-fmt-ignore
  "W5 gpt2": [10.917213, 10.822609, 10.605438, 10.299576, 10.002886, 9.772136, 9.588190, 9.428781, 9.289257, 9.169332, 9.065324],
  // deno-fmt-ignore
  "W5 gpt2-full": [10.917213, 9.074582, 8.795278, 7.073359, 6.206882, 5.337983, 4.623512, 4.111392, 3.791176, 3.567726, 3.482190],
  // deno-fmt-ignore
  "W6 f32": [18152, 18152, 39601, 18152, 18152, 18152, 18152, 39601, 39601, 39601, 39601, 39601, 24863, 25420, 25420, 25420, 25420, 25420, 25420, 25420, 25420, 25420, 7999, 24863],
  // Nobody was asked: rounded weights choose other tokens.
  "W6 bf16": [],
} as const satisfies Record<string, readonly number[]>;

/** Name of a workload. */
export type CaseName = keyof typeof EXPECTED;

/** The workloads, in order. */
export const CASES = Object.keys(EXPECTED) as readonly CaseName[];

/** Largest relative error. */
const TOLERANCE = 1e-3;

/** The first number that is off, in words, or null. Only as many are compared as were found: slow peers take few steps. */
export function mistake(
  name: CaseName,
  found: readonly number[],
): string | null {
  const expected: readonly number[] = EXPECTED[name];
  for (const [i, want] of expected.slice(0, found.length).entries()) {
    const got = found[i]!;
    if (Math.abs(got - want) <= TOLERANCE * Math.abs(want)) continue;
    return `number ${i + 1} is ${got}, and must be ${want}`;
  }
  return found.length === 0 && expected.length > 0
    ? "there are no numbers to check"
    : null;
}
