/**
 * What the type checker refuses: a primitive that lacks a rule, a kernel or a sample.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import type { None, Op, OpName } from "../../core/node.ts";
import { ops } from "../../core/ops.ts";
import { samples } from "../support/samples.ts";
import { scalars } from "../support/scalars.ts";

const root = fromFileUrl(new URL("../..", import.meta.url));

Deno.test("a table without one of its rows does not compile", () => {
  const { matmul: _, ...someOps } = ops;
  // @ts-expect-error: it lacks matmul
  const all: typeof ops = someOps;
  const { scatterAdd: __, ...someSamples } = samples;
  // @ts-expect-error: it lacks scatterAdd
  const sampled: typeof samples = someSamples;
  const { erf: ___, ...someScalars } = scalars;
  // @ts-expect-error: it lacks erf
  const computed: typeof scalars = someScalars;
  // What the compiler refuses is still there when it runs.
  assertEquals("matmul" in all || "scatterAdd" in sampled, false);
  assertEquals("erf" in computed, false);
});

Deno.test("a row without one of its rules does not compile", () => {
  const { kind, type, vjp, batch } = ops.exp;
  const rows: Op<None>[] = [
    { kind, type, vjp, batch },
    // @ts-expect-error: it lacks a batch rule
    { kind, type, vjp },
    // @ts-expect-error: it lacks a VJP rule
    { kind, type, batch },
    // @ts-expect-error: it lacks a type rule
    { kind, vjp, batch },
  ];
  assertEquals(rows.length, 4);
  // @ts-expect-error: nobody knows this name
  const name: OpName = "cbrt";
  assertEquals(name in ops, false);
});

Deno.test("a new primitive compiles nowhere until each backend, the op table and the samples have it", async () => {
  const copy = await Deno.makeTempDir();
  try {
    for (const name of ["core", "gpu", "tests/support"]) {
      await copyFiles(join(root, name), join(copy, name));
    }
    for (const name of ["deno.json", "deno.lock", "mod.ts"]) {
      await Deno.copyFile(join(root, name), join(copy, name));
    }
    const path = join(copy, "core/node.ts");
    const text = await Deno.readTextFile(path);
    await Deno.writeTextFile(
      path,
      text
        .replace(/(interface ElementwiseParams {)/, "$1 cbrt: None;")
        .replace(/(interface StructuralParams {)/, "$1 roll: None;"),
    );
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "gpu/mod.ts", "tests/support/plan_interpreter.ts"]
        .concat("tests/support/samples.ts"),
      cwd: copy,
      env: { NO_COLOR: "1" },
    }).output();
    assertEquals(success, false);
    const errors = new TextDecoder().decode(stderr).split(/\n\n(?=TS)/);
    const complains = (file: string, name: string): boolean =>
      errors.some((e) => e.includes(`/${file}:`) && e.includes(name));
    const everywhere = ["core/ops.ts", "tests/support/samples.ts"];
    for (const file of [...everywhere, "core/cpu/interpreter.ts"]) {
      assert(complains(file, "roll"), `${file} compiles without roll`);
    }
    const scalar = [
      "core/scalars.ts",
      "core/cpu/calls.ts",
      "gpu/scalar.ts",
      "tests/support/scalars.ts",
    ];
    for (const file of [...everywhere, ...scalar]) {
      assert(complains(file, "cbrt"), `${file} compiles without cbrt`);
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
});

/** Copies the source files of a folder. */
async function copyFiles(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    const copy = isDirectory ? copyFiles : Deno.copyFile;
    await copy(join(from, name), join(to, name));
  }
}
