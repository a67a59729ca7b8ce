/**
 * A Hub on this machine: the parts of its API that models are fetched by, with faults on demand.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** A fault of the next answers to requests of a file. */
export type Fault =
  /** The connection is cut after so many bytes. */
  | { readonly cutAfter: number }
  /** Another status. */
  | { readonly status: number }
  /** Other bytes of the same number. */
  | { readonly corrupt: true }
  /** The whole file, whatever part was asked for. */
  | { readonly whole: true }
  /** More bytes than were promised. */
  | { readonly extra: true };

/** A Hub with one model. */
export interface FakeHub extends AsyncDisposable {
  /** Its address. */
  readonly url: string;
  /** Requests so far, as `GET path range`. */
  readonly requests: string[];
  /** Faults of the next requests of each file, in order; null for none. */
  readonly faults: Map<string, (Fault | null)[]>;
  /** A token that every request must bring, if there is one. */
  token: string | null;
  /** The files at the top of the model. */
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
  /** Hash of a file, as the Hub has it: of git for small ones, SHA-256 for weights. */
  hash(name: string): string;
}

/** The commit of the only revision. */
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** Opens a Hub with a model `owner/tiny`, which is also `tiny`. */
export function openFakeHub(
  files: Map<string, Uint8Array<ArrayBuffer>>,
): FakeHub {
  const requests: string[] = [];
  const faults = new Map<string, (Fault | null)[]>();
  const isLarge = (name: string): boolean => name.endsWith(".safetensors");
  const hash = (name: string): string => {
    const bytes = files.get(name)!;
    return isLarge(name)
      ? createHash("sha256").update(bytes).digest("hex")
      : createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes)
        .digest("hex");
  };

  function api(path: string): Response {
    const [, kind, revision] =
      /^\/api\/models\/(?:owner\/)?tiny\/(revision|tree)\/([^/]+)$/.exec(
        path,
      ) ?? [];
    if (!kind) return Response.json({ error: "not found" }, { status: 401 });
    if (!["main", COMMIT].includes(revision!)) {
      return Response.json({ error: "no revision" }, { status: 404 });
    }
    if (kind === "revision") {
      return Response.json({ id: "owner/tiny", _id: "1", sha: COMMIT });
    }
    const entries = [...files].map(([path, { length: size }]) => ({
      type: "file",
      path,
      size,
      oid: isLarge(path) ? "f".repeat(40) : hash(path),
      ...isLarge(path) && { lfs: { oid: hash(path), size, pointerSize: 130 } },
    }));
    const folder = { type: "directory", path: "onnx", size: 0, oid: "" };
    return Response.json([folder, ...entries]);
  }

  function file(name: string, range: string | null): Response {
    const whole = files.get(name);
    if (!whole) return new Response("no such entry", { status: 404 });
    const fault = faults.get(name)?.shift() ?? null;
    if (fault && "status" in fault) {
      return new Response("fault", { status: fault.status });
    }
    const from = fault && "whole" in fault
      ? 0
      : Number(/bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0);
    if (from > 0 && from >= whole.length) {
      return new Response(null, { status: 416 });
    }
    let bytes = whole.slice(from);
    if (fault && "corrupt" in fault) bytes[0]! ^= 1;
    if (fault && "extra" in fault) {
      bytes = Uint8Array.of(...bytes, 1, 2, 3);
    }
    const cut = fault && "cutAfter" in fault ? fault.cutAfter : null;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(cut === null ? bytes : bytes.slice(0, cut));
        if (cut === null) controller.close();
      },
      async pull(controller) {
        if (cut === null) return;
        // Some time, so that what was sent arrives before the connection ends.
        await new Promise((resolve) => setTimeout(resolve, 20));
        controller.error(new Error("cut"));
      },
    });
    return new Response(body, {
      status: from > 0 ? 206 : 200,
      headers: {
        "Content-Length": String(bytes.length),
        ...from > 0 && {
          "Content-Range": `bytes ${from}-${whole.length - 1}/${whole.length}`,
        },
      },
    });
  }

  const server = Deno.serve(
    {
      port: 0,
      hostname: "127.0.0.1",
      onListen: () => {},
      onError: () => new Response(null, { status: 500 }),
    },
    (request) => {
      const { pathname } = new URL(request.url);
      const range = request.headers.get("Range");
      requests.push(`${pathname}${range ? ` ${range}` : ""}`);
      const token = request.headers.get("Authorization");
      if (hub.token !== null && token !== `Bearer ${hub.token}`) {
        return new Response(null, { status: 401 });
      }
      if (pathname.startsWith("/api/")) return api(pathname);
      const [, name] =
        new RegExp(`^/(?:owner/)?tiny/resolve/${COMMIT}/([^/]+)$`).exec(
          pathname,
        ) ?? [];
      return file(name ?? "", range);
    },
  );
  const hub: FakeHub = {
    token: null,
    url: `http://127.0.0.1:${server.addr.port}`,
    requests,
    faults,
    files,
    hash,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
  return hub;
}
