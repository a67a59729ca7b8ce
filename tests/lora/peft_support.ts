/**
 * What the tests of PEFT's folders share: folders made by hand, and what is said of them.
 *
 * @module
 */

import { assertRejects } from "@std/assert";
import {
  FormatError,
  memory,
  ones,
  type Tensor,
  tree,
} from "../../core/mod.ts";
import { loadPeft } from "../../lora/mod.ts";
import { saveSafetensors } from "../../nn/checkpoint/mod.ts";
import { assertNoLeak } from "../nn/checkpoint/support.ts";

/** Writes a folder; names of tensors are without PEFT's root. */
export async function write(
  folder: string,
  config: Record<string, unknown>,
  tensors: Record<string, Tensor>,
): Promise<void> {
  await Deno.writeTextFile(
    `${folder}/adapter_config.json`,
    JSON.stringify({ peft_type: "LORA", r: 1, ...config }),
  );
  await saveSafetensors(
    `${folder}/adapter_model.safetensors`,
    Object.fromEntries(
      Object.entries(tensors).map((
        [name, x],
      ) => [`base_model.model.${name}`, x]),
    ),
    { metadata: { format: "pt" } },
  );
}

/** Factors of rank 1 of a module. */
export function factors(
  module: string,
  into: number,
  out: number,
): Record<string, Tensor> {
  return {
    [`${module}.lora_A.weight`]: ones([1, into]),
    [`${module}.lora_B.weight`]: ones([out, 1]),
  };
}

/** Paths and types of the leaves of adapters. */
export function typesOf(t: tree.Tree): string[] {
  return tree.leaves(t).map(({ path, leaf }) => `${path} ${leaf}`)
    .filter((text) => text.includes("lora"));
}

/** The message with which a folder is refused. */
export async function fault(folder: string, of: tree.Tree): Promise<string> {
  const before = memory().tensors;
  const { message } = await assertRejects(
    () => loadPeft(folder, of),
    FormatError,
  );
  assertNoLeak(before);
  return message;
}
