import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { init, jit, ones, type Tensor } from "cotan";
import {
  closeRuntime,
  createRuntime,
  withRuntime,
} from "../../../core/context.ts";
import { createWasmBackend } from "../../../core/cpu/wasm.ts";
import { assertClose } from "../../support/allclose.ts";
import { buildWithGradient, programs } from "../../support/graphs.ts";
import { upload } from "../../support/primitives.ts";
import { check } from "../../support/runs.ts";
import { hasBlas } from "./support.ts";

const root = new URL("../../../", import.meta.url);

/** Calls `f`; gives what it warned of. */
async function warningsOf(f: () => Promise<void>): Promise<string[]> {
  const { warn } = console;
  const lines: string[] = [];
  console.warn = (line: string) => void lines.push(line);
  try {
    await f();
  } finally {
    console.warn = warn;
  }
  return lines;
}

/** Opens the wasm backend with a BLAS that is not to be had, and multiplies; gives what it warned of. */
function warningsWith(blas: string): Promise<string[]> {
  return warningsOf(async () => {
    using backend = await init({ backend: "wasm", threads: 1, blas });
    assertEquals(backend.adapter, "wasm: simd, relaxed simd, 1 thread");
    assertEquals(await productOfOnes(), 64 ** 3);
  });
}

function productOfOnes(): Promise<number> {
  using x = ones([64, 64]);
  using y = x.matmul(x);
  using sum = y.sum();
  return sum.item();
}

/** Runs a script with flags. */
async function run(script: string, flags: readonly string[]) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", ...flags, "--ext=ts", "-"],
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(script));
  await writer.close();
  const { stdout, stderr } = await child.output();
  const [out, err] = [stdout, stderr].map((b) => new TextDecoder().decode(b));
  return { out, err };
}

/** Opens the wasm backend with a BLAS on two threads, and tells what a product on both gives. */
const script = `
  import { init, ones } from "cotan";
  const { adapter } = await init({ backend: "wasm", threads: 2, blas: "auto" });
  const x = ones([512, 512]);
  for (let i = 0; i < 40; i++) x.matmul(x).dispose();
  console.log(adapter, await x.matmul(x).sum().item());
`;

Deno.test("without the permission one line says so, and products are right", async () => {
  const { out, err } = await run(script, []);
  assertMatch(
    err,
    /^cotan: the built-in products are used, for the BLAS \S+ cannot be opened: Requires ffi access to "\S+", run again with the --allow-ffi flag\n$/,
  );
  assertEquals(out, `wasm: simd, relaxed simd, 2 threads ${512 ** 3}\n`);
});

Deno.test("where there is no Deno one line says so, and products are right", async () => {
  const { out, err } = await run(`delete Deno.dlopen;${script}`, [
    "--allow-ffi",
  ]);
  assertEquals(
    err,
    "cotan: the built-in products are used, for only Deno can open a BLAS\n",
  );
  assertEquals(out, `wasm: simd, relaxed simd, 2 threads ${512 ** 3}\n`);
});

Deno.test({
  name:
    "with the permission products on two threads are right, nothing is warned of, and the process ends",
  ignore: !hasBlas,
  fn: async () => {
    const { out, err } = await run(script, ["--allow-ffi"]);
    assertEquals(err, "");
    assertMatch(out!, /^wasm: simd, relaxed simd, 2 threads, \S+ 134217728\n$/);
  },
});

Deno.test("a BLAS that is not there, is no library, or lacks the product is named", async () => {
  const here = new URL(import.meta.url).pathname;
  for (const path of ["/nowhere/libblas.so", here]) {
    const [line, ...others] = await warningsWith(path);
    assertEquals(others, []);
    const start =
      `cotan: the built-in products are used, for the BLAS ${path} cannot be opened: Could not open library: `;
    assert(line!.startsWith(start), line);
  }
});

Deno.test({
  name: "a library without the product is named",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const [line, ...others] = await warningsWith("libc.so.6");
    assertEquals(others, []);
    assertMatch(
      line!,
      /^cotan: the built-in products are used, for the BLAS libc.so.6 cannot be opened: Failed to register symbol cblas_sgemm: /,
    );
  },
});

Deno.test({
  name: "the adapter names the BLAS",
  ignore: !hasBlas,
  fn: async () => {
    const warnings = await warningsOf(async () => {
      using backend = await init({ backend: "wasm", threads: 1, blas: "auto" });
      const [, ...rest] = backend.adapter.split(", 1 thread, ");
      assertEquals(rest.length, 1);
      assert(!rest[0]!.includes("/"));
      assertEquals(await productOfOnes(), 64 ** 3);
    });
    assertEquals(warnings, []);
  },
});

Deno.test({
  name: "random programs and their gradients agree with the built-in products",
  ignore: !hasBlas,
  fn: async () => {
    const open = (options: { threads: number; blas?: string }) =>
      createRuntime(createWasmBackend({ eager: true, ...options }));
    const plain = open({ threads: 1 });
    const others = [1, 2].map((threads) => open({ threads, blas: "auto" }));
    const property = fc.asyncProperty(programs, async (program) => {
      const compute = () => {
        using f = jit((...xs: Tensor[]) => buildWithGradient(program, xs));
        return f(...program.inputs.map(upload));
      };
      const expected = withRuntime(plain, compute);
      for (const runtime of others) {
        const actual = withRuntime(runtime, compute);
        for (const [i, x] of actual.entries()) {
          await assertClose(x, expected[i]!);
          x.dispose();
        }
      }
      for (const x of expected) x.dispose();
    });
    await check(property, 60);
    for (const runtime of [plain, ...others]) closeRuntime(runtime);
  },
});
