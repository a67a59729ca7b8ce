/**
 * Tracing: what has no value yet, what has leaked, and that it makes no difference whether a function is compiled.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { grad, jit, memory, ones, scope, type Tensor, tensor } from "cotan";
import { currentRuntime } from "../../core/context.ts";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { build, programs } from "../support/graphs.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";

inFloat64(
  "a traced value cannot be read, and the error says what to do",
  () => {
    const rule =
      "while a function is traced: it has no value yet; return it and read the result, or branch with where()";
    const x = ones([2]);
    const reads: [(x: Tensor) => unknown, string][] = [
      [(x) => x.mul(2).data(), "f32[2]"],
      [(x) => x.toArray(), "f32[2]"],
      [(x) => x.sum().item(), "f32[]"],
    ];
    for (const [read, type] of reads) {
      const reading = (x: Tensor): Tensor => {
        read(x);
        return x.sum();
      };
      for (const call of [jit(reading), grad(reading)]) {
        const { message } = assertThrows(() => call(x), TypeError);
        assertEquals(message, `Cannot read ${type} ${rule}`);
      }
    }
  },
);

inFloat64("a value that leaks from its function cannot be used", () => {
  let leaked: Tensor | undefined;
  using keep = jit((x: Tensor) => {
    leaked = x.mul(2);
    return x;
  });
  keep(ones([3]));
  const text =
    "Cannot use f32[3] here: it belongs to a function whose tracing has ended; return it from that function";
  const uses: (() => unknown)[] = [
    () => leaked!.add(1),
    () => jit((x: Tensor) => x.add(leaked!))(ones([3])),
    () => grad((x: Tensor) => x.add(leaked!).sum())(ones([3])),
  ];
  for (const use of uses) {
    assertEquals(assertThrows(use, TypeError).message, text);
  }
  assertThrows(() => leaked!.data(), TypeError, "Cannot read f32[3]");
  // Disposing of it does nothing: it owns nothing.
  leaked!.dispose();
});

inFloat64(
  "a function that throws while it is traced leaves no trace open",
  async () => {
    const fails = (x: Tensor): Tensor => x.matmul(ones([7]));
    assertThrows(() => jit(fails)(ones([2])), RangeError);
    assertThrows(() => grad(fails)(ones([2])), RangeError);
    assertEquals(await ones([2]).add(1).toArray(), [2, 2]);
  },
);

inFloat64(
  "an operation runs at once, and a function made of several as one program",
  () => {
    const { programs } = currentRuntime();
    const x = tensor([1, 2, 3]);
    const before = programs.size;
    x.softmax();
    assertEquals(programs.size, before + 1);
    x.add(1).softmax();
    assertEquals(programs.size, before + 2);
  },
);

inFloat64(
  "programs of operations are kept up to a limit, the least used dropped first",
  () => {
    const { programs } = currentRuntime();
    scope(() => {
      const x = ones([1]);
      for (let i = 0; i < 600; i++) {
        x.add(i);
        x.mul(7);
      }
    });
    assertEquals(programs.size, 512);
    assertEquals(memory().programs, 512);
    const first = [...programs.keys()][0]!;
    assertEquals(first.includes('"value":0'), false);
  },
);

eachBackend(
  "a program gives the same compiled as it does one operation at a time",
  async (backend) => {
    const holds = fc.asyncProperty(programs, async (program) => {
      const inputs = program.inputs.map(upload);
      using f = jit((...xs: Tensor[]) => build(program, xs));
      const compiled = f(...inputs);
      const eager = scope(() => build(program, inputs));
      for (const [i, x] of compiled.entries()) {
        // Compiled, a backend may multiply and add with one rounding.
        const exact = backend === "reference";
        await assertClose(
          x,
          eager[i]!,
          exact ? { rtol: 0, atol: 0 } : { rtol: 1e-4, atol: 1e-5 },
        );
      }
      for (const x of [...inputs, ...compiled, ...eager]) x.dispose();
    });
    await check(holds, backend === "webgpu" ? 6 : 40);
  },
);
