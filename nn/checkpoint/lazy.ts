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

/** What each library gives. */
type Libraries = {
  /** Reads the headers of GGUF files. */
  readonly gguf: typeof import("@huggingface/gguf");
  /** Talks to the Hugging Face Hub. */
  readonly hub: typeof import("@huggingface/hub");
  /** Renders templates. */
  readonly jinja: typeof import("@huggingface/jinja");
};

/** The libraries, as deno.json has them. */
export const LIBRARIES: Readonly<Record<keyof Libraries, string>> = {
  gguf: "npm:@huggingface/gguf@^0.4.6",
  hub: "npm:@huggingface/hub@^2.17.5",
  jinja: "npm:@huggingface/jinja@^0.5.11",
};

/** Loads a library. Elsewhere than in Deno an import map may say where it is. */
export function importLibrary<Name extends keyof Libraries>(
  name: Name,
): Promise<Libraries[Name]> {
  const isDeno = "Deno" in globalThis;
  return import(isDeno ? LIBRARIES[name] : `@huggingface/${name}`);
}
