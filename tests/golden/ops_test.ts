/**
 * Operations and their gradients against the golden files.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import * as cotan from "cotan";
import { type BackendName, grad, scope, type Tensor } from "cotan";
import { assertCloseData } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  type GoldenTensor,
  hasGolden,
  readJson,
  readTensors,
  upload,
} from "../support/golden.ts";
import { isFull } from "../support/runs.ts";
import { type Attributes, type Operation, operations } from "./operations.ts";

/** A case of a file; the strings are names of tensors. */
interface Case {
  readonly id: string;
  readonly kind: "grad" | "forward" | "convention";
  readonly attrs: Attributes;
  readonly note?: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly cotangent?: string;
  readonly grads?: Readonly<Record<number, string>>;
  readonly tangents?: Readonly<Record<number, string>>;
  readonly jvp?: string;
  readonly hvp?: Readonly<Record<number, string>>;
}

/** Relative tolerances, as the files' README suggests for float32. */
interface Tolerances {
  readonly output: number;
  readonly grad: number;
  readonly jvp: number;
  readonly hvp: number;
  /** Of each element of edge values. */
  readonly edge: number;
  /** Of gradients of single cases. */
  readonly looser: Readonly<Record<string, number>>;
}

const inFloat32: Tolerances = {
  output: 2e-6,
  grad: 1e-5,
  jvp: 1e-5,
  hvp: 1e-4,
  edge: 1e-5,
  // Over an axis of size 1 the gradient is the small difference of two nearly equal terms.
  looser: { "rms_norm c2": 1e-3 },
};

/** The files hold float32. */
const exact: Tolerances = {
  output: 1e-7,
  grad: 1e-7,
  jvp: 1e-7,
  hvp: 1e-7,
  edge: 1e-7,
  looser: {},
};

type Tensors = Map<string, GoldenTensor>;

/** A result, and the name of the tensor that it should be. */
interface Result {
  readonly part: "output" | "grad" | "jvp" | "hvp";
  readonly actual: Tensor;
  readonly expected: string;
}

function runCase(
  operation: Operation,
  { attrs, inputs, output, cotangent, grads, tangents, jvp, hvp }: Case,
  tensors: Tensors,
): Result[] {
  const get = (name: string): Tensor => upload(tensors.get(name)!);
  const xs = inputs.map(get);
  const value = operation(attrs, ...xs);
  const results: Result[] = [
    { part: "output", actual: value, expected: output },
  ];
  if (!grads) return results;
  const ct = get(cotangent!);
  const wrt = Object.keys(grads).map(Number);
  const primals = wrt.map((i) => xs[i]!);
  const f = (primals: Tensor[]): Tensor => {
    const rest = [...primals];
    const all = xs.map((x, i) => wrt.includes(i) ? rest.shift()! : x);
    return operation(attrs, ...all);
  };
  const slope = grad((primals: Tensor[]) => f(primals).mul(ct).sum());
  slope(primals).forEach((actual, at) => {
    results.push({ part: "grad", actual, expected: grads[wrt[at]!]! });
  });
  if (!jvp) return results;
  const along = wrt.map((i) => get(tangents![i]!));
  const { tangent } = cotan.jvp(f, [primals], [along]);
  results.push({ part: "jvp", actual: tangent, expected: jvp });
  if (!hvp) return results;
  const curve = grad((primals: Tensor[]) =>
    slope(primals).map((g, i) => g.mul(along[i]!).sum())
      .reduce((a, b) => a.add(b))
  );
  curve(primals).forEach((actual, at) => {
    results.push({ part: "hvp", actual, expected: hvp[wrt[at]!]! });
  });
  return results;
}

/** Asserts a tensor within a share of the largest expected element. */
async function assertNear(
  actual: Tensor,
  expected: GoldenTensor,
  rtol: number,
  what: string,
): Promise<void> {
  assertEquals(actual.shape, expected.shape, what);
  // Where all that is expected is rounding noise, so is what we have.
  let largest = 1e-6;
  for (const x of expected.data) largest = Math.max(largest, Math.abs(x));
  const isExact = expected.dtype !== "f32";
  const atol = isExact ? 0 : rtol * largest;
  assertCloseData(await actual.data(), expected.data, what, { rtol: 0, atol });
}

/** Asserts edge values one by one: NaN is NaN, infinities and, where they count, signs of zero are right. */
async function assertEdges(
  actual: Tensor,
  expected: GoldenTensor,
  operands: readonly GoldenTensor[],
  rtol: number,
  signedZero: boolean,
  what: string,
): Promise<void> {
  assertEquals(actual.shape, expected.shape, what);
  // Float64 has room where float32 overflows. Denormals may be flushed.
  const data = Float32Array.from(await actual.data());
  for (let i = 0; i < data.length && !signedZero; i++) {
    // The sign of an infinity is that of the zero it is made of, and does not count either.
    const isOfZero = operands.some((x) => Object.is(x.data[i], -0));
    if (isOfZero && data[i] === -expected.data[i]!) data[i]! *= -1;
  }
  const options = { rtol: expected.dtype === "f32" ? rtol : 0, atol: 1e-37 };
  assertCloseData(data, expected.data, what, { ...options, signedZero });
}

async function checkFile(
  name: string,
  operation: Operation,
  tolerances: Tolerances,
  backend: BackendName,
): Promise<void> {
  const tensors = readTensors(`golden/ops/${name}.safetensors`);
  const { cases } = readJson<{ cases: Case[] }>(`golden/ops/${name}.json`);
  for (const [i, example] of cases.entries()) {
    const { id, kind, attrs, inputs } = example;
    if (kind === "convention") continue;
    // Shaders take long to compile on a software adapter: a third of the cases by default.
    const isCostly = backend === "webgpu" && kind === "grad";
    if (isCostly && !isFull && i % 3 !== 0) continue;
    const results = scope(() => runCase(operation, example, tensors));
    for (const { part, actual, expected: key } of results) {
      const expected = tensors.get(key)!;
      const what = `${part} ${key} of ${name} ${JSON.stringify(attrs)}`;
      if (kind === "forward") {
        const operands = inputs.map((input) => tensors.get(input)!);
        const signed = attrs.signed_zero ?? false;
        const rtol = tolerances.edge;
        await assertEdges(actual, expected, operands, rtol, signed, what);
      } else {
        const looser = tolerances.looser[`${name} ${id}`];
        const rtol = part !== "output" && looser || tolerances[part];
        await assertNear(actual, expected, rtol, what);
      }
      actual.dispose();
    }
  }
}

const ignore = !hasGolden;

Deno.test({
  name: "every golden operation is tested",
  ignore,
  fn: () => {
    const { ops } = readJson<{ ops: string[] }>("golden/ops/index.json");
    assertEquals(Object.keys(operations).toSorted(), ops.toSorted());
  },
});

async function checkFiles(
  t: Deno.TestContext,
  tolerances: Tolerances,
  backend: BackendName,
): Promise<void> {
  for (const [name, operation] of Object.entries(operations)) {
    await t.step(name, () => checkFile(name, operation, tolerances, backend));
  }
}

inFloat64(
  "operations and their gradients are those of the golden files",
  (t) => checkFiles(t, exact, "reference"),
  ignore,
);

eachBackend(
  "operations and their gradients are those of the golden files",
  (backend, t) => checkFiles(t, inFloat32, backend),
  undefined,
  ignore,
);
