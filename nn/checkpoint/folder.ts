/**
 * The folder of a model, which files may first have to be fetched into.
 *
 * @module
 */

import type { Path } from "./files.ts";

/** A folder that files may first have to be fetched into. */
export interface ModelFolder {
  /** Where it is. */
  readonly path: Path;
  /** Names of the files that the model has on the Hub; null where the Hub was not asked. */
  readonly names: ReadonlySet<string> | null;
  /** Fetches files, those of them that there are. */
  fetch(names: readonly string[]): Promise<void>;
  /** To be called when all that was wanted is there. */
  done(): Promise<void>;
}

/** A folder that has all that it ever will. */
export function fixedFolder(path: Path): ModelFolder {
  const nothing = (): Promise<void> => Promise.resolve();
  return { path, names: null, fetch: nothing, done: nothing };
}
