import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  FormatError,
  init,
  memory,
  random,
  type Tensor,
  tree,
} from "../../../core/mod.ts";
import {
  encodeSafetensors,
  fromPretrained,
  type PretrainedOptions,
  type Progress,
} from "../../../nn/checkpoint/mod.ts";
import { llama } from "../../../nn/models/mod.ts";
import { COMMIT, type FakeHub, openFakeHub } from "./fake_hub.ts";
import {
  assertNoLeak,
  bytesOf,
  dispose,
  inFolder,
  namesIn,
} from "./support.ts";

await init({ backend: "reference" });

const config = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 7,
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
};

const text = (json: unknown): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(JSON.stringify(json));

/** The files of a small model: one with weights, or shards and their index. */
async function modelFiles(
  shards = false,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const params = llama(config).init(random.key(1));
  const entries = tree.leaves(params).map(({ path, leaf }) =>
    [path, leaf] as const
  );
  const encode = (own: typeof entries): Promise<Uint8Array<ArrayBuffer>> =>
    encodeSafetensors(Object.fromEntries(own));
  const files = new Map([["config.json", text(config)]]);
  files.set("README.md", text("not fetched"));
  if (shards) {
    const names = ["a.safetensors", "b.safetensors"];
    const half = entries.length >> 1;
    files.set(names[0]!, await encode(entries.slice(0, half)));
    files.set(names[1]!, await encode(entries.slice(half)));
    const map = Object.fromEntries(
      entries.map(([path], i) => [path, names[Number(i >= half)]]),
    );
    files.set("model.safetensors.index.json", text({ weight_map: map }));
  } else {
    files.set("model.safetensors", await encode(entries));
  }
  dispose(params);
  return files;
}

/** Calls `f` with a Hub, and an empty cache as the options that load from it. */
async function withHub(
  f: (
    hub: FakeHub,
    options: PretrainedOptions & { cacheDir: string; hubUrl: string },
  ) => Promise<void>,
  shards = false,
): Promise<void> {
  await using hub = openFakeHub(await modelFiles(shards));
  await inFolder((cacheDir) => f(hub, { cacheDir, hubUrl: hub.url }));
}

/** Fails unless what is loaded is the model; frees it. */
async function assertLoads(options: PretrainedOptions, id = "owner/tiny") {
  const expected = llama(config).init(random.key(1));
  const { params } = await fromPretrained(id, options);
  const leaves = tree.leaves(params);
  for (const [i, { path, leaf }] of tree.leaves(expected).entries()) {
    assertEquals(leaves[i]!.path, path);
    assertEquals(await bytesOf(leaves[i]!.leaf), await bytesOf(leaf));
  }
  dispose([params, expected as unknown as Tensor[]]);
}

async function refusal(
  options: PretrainedOptions,
  id = "owner/tiny",
): Promise<string> {
  const before = memory().tensors;
  const error = await assertRejects(
    () => fromPretrained(id, options),
    FormatError,
  );
  assertNoLeak(before);
  return error.message;
}

const weights = "model.safetensors";
const resolve = (name: string): string =>
  `/owner/tiny/resolve/${COMMIT}/${name}`;

Deno.test("a model of the Hub is fetched once, into a cache laid out as Python's, and then read from there", async () => {
  await withHub(async (hub, options) => {
    const told: Progress[] = [];
    await assertLoads({ ...options, onProgress: (p) => told.push(p) });
    assertEquals(hub.requests, [
      "/api/models/owner/tiny/revision/main",
      `/api/models/owner/tiny/tree/${COMMIT}`,
      resolve("config.json"),
      resolve(weights),
    ]);
    const size = hub.files.get(weights)!.length;
    assertEquals(
      told.findLast(({ phase }) => phase === "download"),
      { phase: "download", file: weights, loaded: size, total: size },
    );
    const model = `${options.cacheDir}/models--owner--tiny`;
    assertEquals(namesIn(model), ["blobs", "refs", "snapshots"]);
    assertEquals(await Deno.readTextFile(`${model}/refs/main`), COMMIT);
    assertEquals(
      namesIn(`${model}/blobs`),
      [hub.hash("config.json"), hub.hash(weights)].sort(),
    );
    const snapshot = `${model}/snapshots/${COMMIT}`;
    assertEquals(namesIn(snapshot), ["config.json", weights]);
    assertEquals(
      await Deno.readLink(`${snapshot}/${weights}`),
      `../../blobs/${hub.hash(weights)}`,
    );
    await assertLoads(options);
    assertEquals(hub.requests.length, 6);
    await assertLoads({ ...options, offline: true });
    await assertLoads({ ...options, offline: true, revision: COMMIT });
    assertEquals(hub.requests.length, 6);
  });
});

Deno.test("shards are fetched as the index names them, and a model may have a name alone", async () => {
  await withHub(async (hub, options) => {
    await assertLoads({ ...options, revision: COMMIT }, "tiny");
    assertEquals(
      hub.requests.slice(2).map((path) => path.split("/").at(-1)),
      [
        "config.json",
        "model.safetensors.index.json",
        "a.safetensors",
        "b.safetensors",
      ],
    );
    assertEquals(
      namesIn(`${options.cacheDir}/models--tiny`),
      [
        "blobs",
        "refs",
        "snapshots",
      ].filter((name) => name !== "refs"),
    );
  }, true);
});

Deno.test("a cut download goes on from where it was, within a call and in the next", async () => {
  await withHub(async (hub, options) => {
    hub.faults.set(weights, [{ cutAfter: 100 }, { cutAfter: 50 }]);
    await assertLoads(options);
    assertEquals(hub.requests.slice(-3), [
      resolve(weights),
      `${resolve(weights)} bytes=100-`,
      `${resolve(weights)} bytes=150-`,
    ]);
  });
  await withHub(async (hub, options) => {
    hub.faults.set(weights, [{ cutAfter: 100 }, { cutAfter: 0 }]);
    const size = hub.files.get(weights)!.length;
    assertEquals(
      await refusal(options),
      `Cannot download ${weights} of owner/tiny: the connection was cut after 100 of ${size} bytes; another call goes on from there`,
    );
    const blobs = `${options.cacheDir}/models--owner--tiny/blobs`;
    assert(namesIn(blobs).includes(`${hub.hash(weights)}.incomplete`));
    // Offline there is no more than that.
    assertMatch(
      await refusal({ ...options, offline: true }),
      /does not have it at main; offline is true$/,
    );
    await assertLoads(options);
    assertEquals(hub.requests.at(-1), `${resolve(weights)} bytes=100-`);
    assert(!namesIn(blobs).some((name) => name.endsWith(".incomplete")));
  });
  await withHub(async (hub, options) => {
    hub.faults.set(weights, Array(9).fill({ cutAfter: 10 }));
    assertMatch(await refusal(options), /cut after 60 of/);
  });
});

Deno.test("a server without ranges, and what is left of another file, are started over", async () => {
  await withHub(async (hub, options) => {
    hub.faults.set(weights, [{ cutAfter: 100 }, { whole: true }]);
    await assertLoads(options);
  });
  await withHub(async (hub, options) => {
    const blobs = `${options.cacheDir}/models--owner--tiny/blobs`;
    const size = hub.files.get(weights)!.length;
    await Deno.mkdir(blobs, { recursive: true });
    const partial = `${blobs}/${hub.hash(weights)}.incomplete`;
    await Deno.writeFile(partial, new Uint8Array(size + 1));
    await assertLoads(options);
    assertEquals(hub.requests.at(-1), resolve(weights));
  });
  await withHub(async (hub, options) => {
    hub.faults.set(weights, [{ cutAfter: 100 }, { status: 416 }]);
    await assertLoads(options);
    assertEquals(hub.requests.at(-1), resolve(weights));
  });
});

Deno.test("wrong bytes, too many and errors of the server are refused, and the cache stays sound", async () => {
  await withHub(async (hub, options) => {
    const name = `${weights} of owner/tiny`;
    for (
      const [fault, message] of [
        [
          { corrupt: true },
          new RegExp(
            `^Cannot download ${name}: its hash is [0-9a-f]{64}, and ${
              hub.hash(weights)
            } was promised; what came is thrown away$`,
          ),
        ],
        [
          { extra: true },
          new RegExp(
            `^Cannot download ${name}: more than the \\d+ bytes come that were promised; what came is thrown away$`,
          ),
        ],
        [
          { status: 503 },
          new RegExp(
            `^Cannot download ${name}: the server answers 503 to http://127`,
          ),
        ],
      ] as const
    ) {
      hub.faults.set(weights, [fault]);
      assertMatch(await refusal(options), message);
      const model = `${options.cacheDir}/models--owner--tiny`;
      assertEquals(namesIn(`${model}/snapshots/${COMMIT}`), ["config.json"]);
      assertEquals(namesIn(model), ["blobs", "snapshots"]);
    }
    hub.faults.set("config.json", [{ corrupt: true }]);
    await assertLoads(options);
  });
  await withHub(async (hub, options) => {
    hub.faults.set("config.json", [{ corrupt: true }]);
    assertMatch(
      await refusal(options),
      /^Cannot download config\.json of owner\/tiny: its hash is [0-9a-f]{40}, and/,
    );
  });
});

Deno.test("a model or revision that does not exist is named, and nothing is made of it", async () => {
  await withHub(async (hub, options) => {
    assertEquals(
      await refusal(options, "owner/none"),
      `Cannot load a model from owner/none: there is no such folder here, and ${hub.url} has no such model at main, or gives it only with an accessToken (status 401)`,
    );
    assertEquals(
      await refusal({ ...options, revision: "v9" }),
      `Cannot load a model from owner/tiny: there is no such folder here, and ${hub.url} has no such model at v9, or gives it only with an accessToken (status 404)`,
    );
    assertEquals(
      await refusal({ ...options, revision: "../../x" }),
      'Cannot load a model from owner/tiny: "../../x" is no name of a revision',
    );
    assertEquals(
      await refusal({ ...options, offline: true }),
      `Cannot load a model from owner/tiny: there is no such folder here, and the cache ${options.cacheDir} does not have it at main; offline is true`,
    );
    assertEquals(namesIn(options.cacheDir), []);
    hub.files.delete(weights);
    hub.files.set("pytorch_model.bin", text(""));
    assertMatch(await refusal(options), /: pytorch_model\.bin is a pickle,/);
    hub.files.delete("config.json");
  });
});

Deno.test("a token goes with every request, and one that is none is refused", async () => {
  await withHub(async (hub, options) => {
    hub.token = "hf_secret";
    assertMatch(await refusal(options), /an accessToken \(status 401\)$/);
    await assertLoads({ ...options, accessToken: "hf_secret" });
    await assertRejects(
      () => fromPretrained("owner/tiny", { ...options, accessToken: "other" }),
      TypeError,
      "must start with 'hf_'",
    );
  });
});

Deno.test("where the network is out of reach the cache is used, with a notice, or the error says so", async () => {
  await withHub(async (hub, options) => {
    await assertLoads(options);
    // A port that nobody listens on any more.
    const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const hubUrl = `http://127.0.0.1:${listener.addr.port}`;
    listener.close();
    const told: Progress[] = [];
    await assertLoads({
      ...options,
      hubUrl,
      onProgress: (p) => told.push(p),
    });
    assertMatch(
      told[0]!.notice!,
      /out of reach \(.*refused.*\); the cache is used$/,
    );
    assertMatch(
      await refusal({ ...options, hubUrl }, "owner/other"),
      /^Cannot load a model from owner\/other: there is no such folder here, and http:.* is out of reach \(.*\), and the cache .* does not have it$/,
    );
    assertEquals(hub.requests.length, 4);
  });
});

Deno.test("an aborted download ends with the signal's reason and leaves what came for later", async () => {
  await withHub(async (hub, options) => {
    const stop = new AbortController();
    hub.faults.set(weights, [{ cutAfter: 100 }]);
    const error = await assertRejects(() =>
      fromPretrained("owner/tiny", {
        ...options,
        signal: stop.signal,
        onProgress: ({ file, loaded }) => {
          if (file === weights && loaded > 0) stop.abort(new Error("enough"));
        },
      }), Error);
    assertEquals(error.message, "enough");
    await assertLoads(options);
  });
});

Deno.test({
  name:
    "without permission for the network the cache is used, or the error says which one is missing",
  permissions: { read: true, write: true, env: false, net: false },
  fn: async () => {
    await inFolder(async (cacheDir) => {
      assertMatch(
        await refusal({ cacheDir }),
        /is out of reach \(Requires net access to "huggingface\.co:443".*\), and the cache/,
      );
      assertEquals(
        await refusal({}),
        "Cannot load a model from owner/tiny: there is no such folder here, and to fetch it from the Hugging Face Hub " +
          "takes a cacheDir, since the environment, which says where the cache is, may not be read",
      );
      const model = `${cacheDir}/models--owner--tiny`;
      const snapshot = `${model}/snapshots/${COMMIT}`;
      await Deno.mkdir(snapshot, { recursive: true });
      await Deno.mkdir(`${model}/refs`);
      await Deno.writeTextFile(`${model}/refs/main`, `${COMMIT}\n`);
      for (const [name, bytes] of await modelFiles()) {
        await Deno.writeFile(`${snapshot}/${name}`, bytes);
      }
      await assertLoads({ cacheDir });
    });
  },
});

const temporary = Deno.env.get("TMPDIR") ?? "/tmp";
Deno.test({
  name:
    "where links are not allowed the files themselves stand in the snapshot",
  // Links take permission to write everywhere.
  permissions: {
    read: true,
    write: [temporary],
    net: ["127.0.0.1"],
    env: true,
  },
  fn: () =>
    withHub(async (hub, options) => {
      await assertLoads(options);
      const model = `${options.cacheDir}/models--owner--tiny`;
      assertEquals(namesIn(`${model}/blobs`), []);
      const path = `${model}/snapshots/${COMMIT}/${weights}`;
      assert((await Deno.lstat(path)).isFile);
      await assertLoads(options);
      assertEquals(hub.requests.length, 6);
    }),
});
