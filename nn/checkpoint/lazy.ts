/**
 * Libraries that few programs need: they are loaded, and downloaded where they are not there yet, when they are used.
 *
 * Deno downloads what it finds named in an `import()` before a program runs, so the names stand in variables here; and
 * it knows a published module's own names of packages only where it finds them, so they are written in full.
 *
 * This module is browser compatible.
 *
 * @module
 */

type Library = "gguf" | "hub" | "jinja";

/** The libraries, as deno.json has them. */
export const LIBRARIES: Readonly<Record<Library, string>> = {
  gguf: "npm:@huggingface/gguf@^0.4.6",
  hub: "npm:@huggingface/hub@^2.17.5",
  jinja: "npm:@huggingface/jinja@^0.5.11",
};

/** Reads the headers of GGUF files. */
export function importGguf(): Promise<typeof import("@huggingface/gguf")> {
  return import(nameOf("gguf"));
}

/** Talks to the Hugging Face Hub. */
export function importHub(): Promise<typeof import("@huggingface/hub")> {
  return import(nameOf("hub"));
}

/** Renders templates. */
export function importJinja(): Promise<typeof import("@huggingface/jinja")> {
  return import(nameOf("jinja"));
}

/** Elsewhere than in Deno an import map may say where a library is. */
function nameOf(library: Library): string {
  return "Deno" in globalThis ? LIBRARIES[library] : `@huggingface/${library}`;
}
