/**
 * Selectors: what each kind of pattern chooses, and that a pattern which chooses nothing is an error.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { init, type Selector, tree, TreeError, zeros } from "cotan";
import type { Tree } from "cotan";

const paths = [
  "model.embed_tokens.weight",
  ...[0, 1, 10].flatMap((i) =>
    [
      "self_attn.q_proj.weight",
      "self_attn.q_proj.bias",
      "self_attn.v_proj.weight",
      "mlp.up_proj.weight",
    ]
      .map((rest) => `model.layers.${i}.${rest}`)
  ),
  "lm_head.weight",
];

/** A tree with a leaf at each path. */
function treeOf(paths: readonly string[]): Tree {
  type Node = { [key: string]: Node | Tree };
  const root: Node = {};
  for (const path of paths) {
    const keys = path.split(".");
    const last = keys.pop()!;
    let node = root;
    for (const key of keys) node = (node[key] ??= {}) as Node;
    node[last] = zeros([1]);
  }
  return root as Tree;
}

async function select(selector: Selector, from = paths): Promise<string[]> {
  using _ = await init({ backend: "reference" });
  const [selected] = tree.partition(treeOf(from), selector);
  return tree.leaves(selected).map(({ path }) => path);
}

/** Paths that match an expression. */
const those = (wanted: RegExp): string[] =>
  paths.filter((path) => wanted.test(path));

Deno.test("a name takes whole segments, in the middle or at the end, as PEFT does", async () => {
  assertEquals(await select("q_proj"), those(/\.q_proj\./));
  assertEquals(await select("self_attn.q_proj"), those(/\.q_proj\./));
  assertEquals(await select("bias"), those(/\.bias$/));
  assertEquals(await select("layers.1"), those(/layers\.1\./));
  assertEquals(await select("lm_head"), ["lm_head.weight"]);
  assertEquals(await select("model"), those(/^model\./));
});

Deno.test("a star takes one segment, two take any number, braces either", async () => {
  assertEquals(
    await select("model.layers.*.self_attn.q_proj.weight"),
    those(/q_proj\.weight/),
  );
  assertEquals(
    await select("model.layers.*.self_attn.{q,v}_proj.weight"),
    those(/[qv]_proj\.weight/),
  );
  assertEquals(await select("**.bias"), those(/bias$/));
  assertEquals(await select("**.weight"), those(/weight$/));
  assertEquals(await select("model.layers.1.**"), those(/layers\.1\./));
  assertEquals(await select("model.**.weight"), those(/^model.*weight$/));
  assertEquals(await select("*.weight"), ["lm_head.weight"]);
  assertEquals(await select("**.{embed_tokens,lm_head}.*"), [
    paths[0]!,
    "lm_head.weight",
  ]);
});

Deno.test("other characters of a glob stand for themselves", async () => {
  const from = ["a+b.w", "aab.w", "a(b.w"];
  assertEquals(await select("a+b.*", from), ["a+b.w"]);
  assertEquals(await select("a(b.*", from), ["a(b.w"]);
});

Deno.test("an expression must match the whole path", async () => {
  assertEquals(
    await select(/.*\.(q|v)_proj\.weight/),
    those(/[qv]_proj\.weight/),
  );
  assertEquals(await select(/LM_HEAD.*/i), ["lm_head.weight"]);
  // State that flags g and y keep between calls must not show.
  assertEquals(await select(/.*bias/g), those(/bias$/));
  await assertNothing(/q_proj/, "/q_proj/");
});

Deno.test("an array takes what any of its patterns takes, a function what it says", async () => {
  assertEquals(await select(["v_proj", /lm_head.*/]), those(/v_proj|lm_head/));
  assertEquals(
    await select((path, leaf) => leaf.shape[0] === 1 && path.endsWith("bias")),
    those(/bias$/),
  );
  assertEquals(await select(() => false), []);
});

const summary =
  "there are model.embed_tokens.weight, model.layers.*.self_attn.q_proj.weight, " +
  "model.layers.*.self_attn.q_proj.bias, model.layers.*.self_attn.v_proj.weight, model.layers.*.mlp.up_proj.weight, lm_head.weight";

async function assertNothing(selector: Selector, shown: string): Promise<void> {
  using _ = await init({ backend: "reference" });
  const error = assertThrows(
    () => tree.partition(treeOf(paths), selector),
    TreeError,
  );
  assertEquals(
    error.message,
    `Cannot select by ${shown}: it matches no leaf; ${summary}`,
  );
}

Deno.test("a pattern that matches nothing throws and lists what there is", async () => {
  await assertNothing("k_proj", '"k_proj"');
  await assertNothing("proj", '"proj"');
  await assertNothing("q_proj.weight.", '"q_proj.weight."');
  await assertNothing("model.*.weight.*", '"model.*.weight.*"');
  await assertNothing("", '""');
  // Each pattern of a list must match something.
  await assertNothing(["q_proj", "k_proj"], '"k_proj"');
});

Deno.test("a long list of what there is ends after twelve", async () => {
  using _ = await init({ backend: "reference" });
  const many = Array.from({ length: 15 }, (_, i) => `p${"x".repeat(i)}`);
  const error = assertThrows(
    () => tree.partition(treeOf(many), "q"),
    TreeError,
  );
  assertEquals(
    error.message,
    `Cannot select by "q": it matches no leaf; there are ${
      many.slice(0, 12).join(", ")
    }, and 3 more`,
  );
  const none = assertThrows(() => tree.partition({}, "q"), TreeError);
  assertEquals(
    none.message,
    'Cannot select by "q": it matches no leaf; there is none at all',
  );
});
