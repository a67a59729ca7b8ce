import { assert, assertEquals } from "@std/assert";
import { init } from "../../core/mod.ts";
import { loadPeft, mergeAdapters, savePeft } from "../../lora/mod.ts";
import { inFolder } from "../nn/checkpoint/support.ts";
import { adapt, baseParams, logits, trained } from "./support.ts";

for (const backend of ["reference", "wasm"] as const) {
  Deno.test(`on ${backend} a fresh adapter changes nothing, a saved one comes back, both bit for bit, and a merged one agrees`, async () => {
    await init({ backend });
    const params = baseParams();
    const before = await logits(params);
    const fresh = adapt(params, { targets: "all-linear", rank: 4 });
    assertEquals(await logits(fresh), before);
    const tuned = trained(fresh);
    const after = await logits(tuned);
    await inFolder(async (folder) => {
      await savePeft(folder, tuned);
      assertEquals(await logits(await loadPeft(folder, params)), after);
    });
    const merged = await logits(mergeAdapters(tuned));
    const largest = Math.max(...after.map(Math.abs));
    assert(merged.every((x, i) => Math.abs(x - after[i]!) < 1e-5 * largest));
  });
}
