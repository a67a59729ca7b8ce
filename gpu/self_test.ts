/**
 * The self-test: a shader that a driver accepts may still compute nothing but zeros, without an error
 * (tensorflow/tfjs#6842).
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Backend } from "../core/backend.ts";
import { DeviceError } from "../core/errors.ts";
import type { Expr, Plan } from "../core/plan/kernel.ts";

/** Computes 2x + i for a few x and compares; disposes of the backend and throws if that fails. */
export async function selfTest(backend: Backend): Promise<void> {
  const x = Float32Array.of(0.5, -1, 2.25, 4, 100, -8, 0, 3);
  const graph = { inputs: [], outputs: [] };
  try {
    const program = backend.compile(graph, [false], () => plan(x.length));
    const input = backend.upload(x, "f32");
    const [output] = program.run([input]);
    const found = await backend.download(output!, "f32", x.length);
    program.dispose();
    [input, output!].forEach((storage) => backend.free(storage));
    if (!x.every((value, i) => found[i] === 2 * value + i)) {
      throw new DeviceError(
        `${backend.adapter} failed the self-test: it gave [${
          found.join(", ")
        }]`,
      );
    }
  } catch (error) {
    backend.dispose();
    throw error;
  }
}

function plan(size: number): Plan {
  const view = { offset: 0, strides: [1] };
  const dtype = "f32";
  const call = (op: "add" | "mul", ...args: Expr[]): Expr => ({
    kind: "call",
    op,
    args,
    dtype,
  });
  const expr = call(
    "add",
    call(
      "mul",
      { kind: "const", value: 2, dtype },
      { kind: "load", buffer: 0, view, dtype },
    ),
    { kind: "index", view, dtype },
  );
  return {
    inputs: 1,
    outputs: [{ kind: "new", size, dtype }],
    freed: [],
    pages: [],
    loops: [],
    steps: [{
      kernel: {
        kind: "map",
        shape: [size],
        outputs: [{ buffer: 1, view, expr }],
      },
      buffers: [{ kind: "input", index: 0 }, { kind: "output", index: 0 }],
      dtypes: [dtype, dtype],
    }],
  };
}
