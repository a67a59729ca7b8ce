/**
 * Models of the Hugging Face Hub: found by `@huggingface/hub`, fetched into a cache, and read from there.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import { download } from "./download.ts";
import { exists } from "./files.ts";
import { fixedFolder, type ModelFolder } from "./folder.ts";
import {
  cachedCommit,
  COMMIT,
  conventionalCache,
  modelFolder,
  place,
  writeRef,
} from "./hub_cache.ts";
import { importLibrary } from "./lazy.ts";
import type { StreamOptions } from "./stream.ts";

/** How models are fetched from the Hub. */
export interface HubOptions extends StreamOptions {
  /** A branch, a tag or a commit; "main". */
  readonly revision?: string;
  /**
   * Folder of the cache; that of Hugging Face's own libraries when absent, if the environment variables that say where
   * it is may be read.
   */
  readonly cacheDir?: string;
  /** Whether only what is in the cache is used. */
  readonly offline?: boolean;
  /** Address of the Hub or a mirror of it; "https://huggingface.co". */
  readonly hubUrl?: string;
  /** A token for models that are not public; it begins with "hf_". */
  readonly accessToken?: string;
}

/** A file of a model on the Hub. */
interface Listed {
  readonly bytes: number;
  readonly hash: string;
}

/** Whether a text may be a model of the Hub: `owner/name`, or a name alone. */
export function isHubId(text: string): boolean {
  return /^[\w-][\w.-]*(?:\/[\w-][\w.-]*)?$/.test(text) &&
    !/--|\.\.|\.git$/.test(text) && text.length <= 96;
}

/** The folder of a model of the Hub in the cache, up to date where the network is within reach. */
export async function openHub(
  id: string,
  options: HubOptions = {},
): Promise<ModelFolder> {
  const { revision = "main", offline = false, onProgress } = options;
  if (!/^[\w.-]+(?:\/[\w.-]+)*$/.test(revision) || revision.includes("..")) {
    throw new FormatError(
      `Cannot load a model from ${id}: "${revision}" is no name of a revision`,
    );
  }
  const what =
    `Cannot load a model from ${id}: there is no such folder here, and`;
  const cacheDir = options.cacheDir ?? conventionalCache();
  if (cacheDir === null) {
    throw new FormatError(
      `${what} to fetch it from the Hugging Face Hub takes a cacheDir, since the environment, which says where the ` +
        `cache is, may not be read`,
    );
  }
  const model = modelFolder(cacheDir, id);
  const commit = await cachedCommit(model, revision);
  const cached = commit === null ? null : `${model}/snapshots/${commit}`;
  const isCached = cached !== null && await exists(cached);
  if (offline) {
    if (isCached) return fixedFolder(cached);
    throw new FormatError(
      `${what} the cache ${cacheDir} does not have it at ${revision}; offline is true`,
    );
  }
  try {
    return await openOnline(id, model, revision, options);
  } catch (error) {
    if (!isUnreachable(error)) throw error;
    const why = (error as Error).message;
    const at = options.hubUrl ?? "https://huggingface.co";
    if (!isCached) {
      throw new FormatError(
        `${what} ${at} is out of reach (${why}), and the cache ${cacheDir} does not have it`,
        { cause: error },
      );
    }
    const notice = `${at} is out of reach (${why}); the cache is used`;
    onProgress?.({ phase: "download", file: id, loaded: 0, total: 0, notice });
    return fixedFolder(cached);
  }
}

async function openOnline(
  id: string,
  model: string,
  revision: string,
  options: HubOptions,
): Promise<ModelFolder> {
  const { hubUrl = "https://huggingface.co", accessToken, signal } = options;
  const { commit, files } = await list(id, revision, { ...options, hubUrl });
  const path = `${model}/snapshots/${commit}`;
  await Deno.mkdir(`${model}/blobs`, { recursive: true });
  await Deno.mkdir(path, { recursive: true });
  const get = (url: string, from: number): Promise<Response> =>
    reach(url, {
      signal: signal ?? null,
      headers: {
        // What is compressed on the way could not be resumed.
        "Accept-Encoding": "identity",
        ...from > 0 && { Range: `bytes=${from}-` },
        ...accessToken && { Authorization: `Bearer ${accessToken}` },
      },
    });
  async function fetchOne(file: string, { bytes, hash }: Listed) {
    if (await exists(`${path}/${file}`)) return;
    const url = `${hubUrl}/${id}/resolve/${commit}/${encodeURIComponent(file)}`;
    const onBytes = (loaded: number): void =>
      options.onProgress?.({ phase: "download", file, loaded, total: bytes });
    const name = `${file} of ${id}`;
    const remote = { name, url, bytes, hash };
    try {
      await download(remote, `${model}/blobs/${hash}`, { get, onBytes });
    } catch (error) {
      if (!isUnreachable(error)) throw error;
      throw new FormatError(
        `Cannot download ${name}: ${(error as Error).message}`,
        { cause: error },
      );
    }
    await place(model, hash, commit, file);
  }
  return {
    path,
    names: new Set(files.keys()),
    fetch: async (names) => {
      for (const name of names) {
        const listed = files.get(name);
        if (listed) await fetchOne(name, listed);
      }
    },
    done: () => writeRef(model, revision, commit),
  };
}

/** The commit of a revision, and the files at the top of it. */
async function list(
  id: string,
  revision: string,
  options: HubOptions & { readonly hubUrl: string },
): Promise<{ commit: string; files: Map<string, Listed> }> {
  const { hubUrl, accessToken, signal } = options;
  const { HubApiError, listFiles, modelInfo } = await importLibrary("hub")
    // Without the network it may not be there yet.
    .catch((cause) => Promise.reject(outOfReach(cause)));
  const common = {
    hubUrl,
    ...accessToken && { accessToken },
    fetch:
      ((input, init) =>
        reach(input, { ...init, signal: signal ?? null })) as typeof fetch,
  };
  try {
    const { sha: commit } = await modelInfo({
      ...common,
      name: id,
      revision,
      additionalFields: ["sha"],
    });
    check(id, COMMIT.test(commit), `its commit is given as ${commit}`);
    const files = new Map<string, Listed>();
    const entries = listFiles({ ...common, repo: id, revision: commit });
    for await (const { type, path, size, oid, lfs } of entries) {
      if (type !== "file") continue;
      const hash = lfs?.oid ?? oid ?? "";
      const isHash = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(hash);
      check(id, isHash, `the hash of ${path} is given as "${hash}"`);
      files.set(path, { bytes: lfs?.size ?? size, hash });
    }
    return { commit, files };
  } catch (error) {
    if (!(error instanceof HubApiError)) throw error;
    const { statusCode } = error;
    throw new FormatError(
      `Cannot load a model from ${id}: there is no such folder here, and ${hubUrl} ${
        [401, 403, 404].includes(statusCode)
          ? `has no such model at ${revision}, or gives it only with an accessToken (status ${statusCode})`
          : `answers ${statusCode}`
      }`,
      { cause: error },
    );
  }
}

function check(id: string, holds: boolean, fault: string): void {
  if (!holds) throw new FormatError(`Cannot load a model from ${id}: ${fault}`);
}

/** Fetches; where the network cannot be used, or may not be, the error says that it is out of reach. */
async function reach(
  input: RequestInfo | URL,
  init: RequestInit,
): Promise<Response> {
  try {
    return await fetch(input, init);
  } catch (error) {
    const isOut = error instanceof TypeError ||
      error instanceof Deno.errors.NotCapable;
    throw isOut ? outOfReach(error) : error;
  }
}

function outOfReach(error: Error): Error {
  // What fetch throws says no more than that it failed.
  const { message } = error.cause instanceof Error ? error.cause : error;
  const [line] = message.split("\n");
  return new Deno.errors.ConnectionRefused(line, { cause: error });
}

function isUnreachable(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionRefused;
}
