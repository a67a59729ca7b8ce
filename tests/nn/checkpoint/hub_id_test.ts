import { assert } from "@std/assert";
import { isHubId } from "../../../nn/checkpoint/hub.ts";

Deno.test("what looks like a model of the Hub is told from a path", () => {
  for (const id of ["gpt2", "owner/name", "o-w/n.a_m-e", "A1/b2"]) {
    assert(isHubId(id), id);
  }
  for (
    const path of [
      ..."./a ../a /a a/ a/b/c a\\b a--b a/b..c ~/a C:/a".split(" "),
      "",
      "a b",
    ]
  ) assert(!isHubId(path), path);
});
