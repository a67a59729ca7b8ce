/**
 * Where a model is: a folder, or the Hub.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import { exists, join, type Path, show } from "./files.ts";
import { fixedFolder, type ModelFolder } from "./folder.ts";
import { type HubOptions, isHubId, openHub } from "./hub.ts";
import { WEIGHTS } from "./weights.ts";

/** Finds a model's folder, or, for a name that is none, the model of the Hub; config.json is there then. */
export async function openFolder(
  source: Path,
  options: HubOptions,
): Promise<ModelFolder> {
  const isThere = await exists(source);
  if (typeof source === "string" && !isThere && isHubId(source)) {
    const folder = await openHub(source, options);
    await folder.fetch(["config.json"]);
    await checkConfig(folder.path);
    return folder;
  }
  const what = `Cannot load a model from ${show(source)}`;
  const files = `config.json and ${WEIGHTS}`;
  if (!isThere) {
    throw new FormatError(
      `${what}: there is no such folder; give one with ${files}, or a model of the Hugging Face Hub as owner/name`,
    );
  }
  if (!(await Deno.stat(source)).isDirectory) {
    throw new FormatError(`${what}: it is no folder; give one with ${files}`);
  }
  await checkConfig(source);
  return fixedFolder(source);
}

async function checkConfig(folder: Path): Promise<void> {
  if (await exists(join(folder, "config.json"))) return;
  throw new FormatError(
    `Cannot load a model from ${
      show(folder)
    }: it has no config.json; expected config.json and ${WEIGHTS}`,
  );
}
