import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { inFolder, prepare, run } from "./support.ts";

/** A model and conversations; gives the options of a run. */
async function prepareTalk(
  folder: string,
  template: string | null,
): Promise<string[]> {
  const options = await prepare(folder);
  const path = `${folder}/model/tokenizer_config.json`;
  const config = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(
    path,
    JSON.stringify({ ...config, ...(template && { chat_template: template }) }),
  );
  const talk = Array.from("abcdefghij".repeat(4), (letter) =>
    JSON.stringify({
      messages: [
        { role: "user", content: letter },
        { role: "assistant", content: letter.repeat(3) },
      ],
    }));
  await Deno.writeTextFile(`${folder}/talk.jsonl`, talk.join("\n"));
  return [...options, "--data", `${folder}/talk.jsonl`];
}

Deno.test("finetune learns conversations through the model's chat template", async () => {
  await inFolder(async (folder) => {
    const options = await prepareTalk(
      folder,
      "{% for m in messages %}{{ '<u>' if m.role == 'user' else '<a>' }}{{ m.content }}{% endfor %}" +
        "{% if add_generation_prompt %}<a>{% endif %}",
    );
    const { status, out, errors } = await run(
      ...["finetune", ...options, "--completion-only", "--steps", "60"],
      ...["--method", "full"],
    );
    assertEquals([status, errors], [0, []]);
    assertStringIncludes(out, "<u>");
    const [before, after] = [...out.matchAll(/training: ([\d.]+)/g)]
      .map(([, loss]) => Number(loss));
    assert(after! < before! - 0.5, out);
  });
});

Deno.test("conversations for a model without a chat template are one clear line", async () => {
  await inFolder(async (folder) => {
    const options = await prepareTalk(folder, null);
    const { status, errors } = await run("finetune", ...options);
    assertEquals(status, 1);
    assertEquals(errors.length, 1);
    assertStringIncludes(errors[0]!, "chat");
    assertEquals(errors[0]!.split("\n").length, 1);
  });
});
