import { assertEquals } from "@std/assert";
import { LIBRARIES } from "../../../nn/checkpoint/lazy.ts";

Deno.test("libraries that are loaded when needed are those of deno.json", async () => {
  const file = new URL("../../../deno.json", import.meta.url);
  const { imports } = JSON.parse(await Deno.readTextFile(file));
  for (const [name, specifier] of Object.entries(LIBRARIES)) {
    assertEquals(specifier, imports[`@huggingface/${name}`]);
  }
});
