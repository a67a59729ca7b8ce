/**
 * The cache of Hub models on the disk, laid out as `huggingface_hub` for Python lays out its own, so that both use one:
 * `models--owner--name` with `blobs` by hash, `snapshots` by commit, and `refs` from a revision to its commit.
 *
 * @module
 */

import { exists, replaceFiles } from "./files.ts";

/** A commit, as git writes it. */
export const COMMIT = /^[0-9a-f]{40}$/;

/** The folder of a model in the cache. */
export function modelFolder(cacheDir: string, id: string): string {
  return `${cacheDir.replace(/\/$/, "")}/models--${id.replaceAll("/", "--")}`;
}

/** Where the conventional cache is, or null where that cannot be known without asking for a permission. */
export function conventionalCache(): string | null {
  const read = (name: string): string | undefined => {
    const { state } = Deno.permissions.querySync({
      name: "env",
      variable: name,
    });
    return state === "granted" ? Deno.env.get(name) : undefined;
  };
  const direct = read("HF_HUB_CACHE") ?? read("HUGGINGFACE_HUB_CACHE");
  if (direct) return direct;
  const home = read("HF_HOME");
  if (home) return `${home}/hub`;
  const caches = read("XDG_CACHE_HOME");
  if (caches) return `${caches}/huggingface/hub`;
  const user = read(Deno.build.os === "windows" ? "USERPROFILE" : "HOME");
  return user ? `${user}/.cache/huggingface/hub` : null;
}

/** The commit of a revision as the cache knows it, or null. */
export async function cachedCommit(
  model: string,
  revision: string,
): Promise<string | null> {
  if (COMMIT.test(revision)) return revision;
  const path = `${model}/refs/${revision}`;
  if (!await exists(path)) return null;
  const commit = (await Deno.readTextFile(path)).trim();
  return COMMIT.test(commit) ? commit : null;
}

/** Writes down which commit a revision is. */
export async function writeRef(
  model: string,
  revision: string,
  commit: string,
): Promise<void> {
  if (await cachedCommit(model, revision) === commit) return;
  const path = `${model}/refs/${revision}`;
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await replaceFiles([{ path, content: commit }]);
}

/** Puts a blob into a snapshot under its name: a link, or the blob itself where links are not allowed. */
export async function place(
  model: string,
  hash: string,
  commit: string,
  name: string,
): Promise<void> {
  const path = `${model}/snapshots/${commit}/${name}`;
  if (await exists(path)) return;
  try {
    await Deno.symlink(`../../blobs/${hash}`, path);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return;
    await Deno.rename(`${model}/blobs/${hash}`, path);
  }
}
