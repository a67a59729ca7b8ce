/**
 * A run of `finetune` in a process of its own that Ctrl-C ends.
 *
 * @module
 */

const cli = new URL("../../cli.ts", import.meta.url).pathname;

/** Starts a long run; `isReady` tells from its output when it is to be interrupted. */
export async function interrupted(
  options: readonly string[],
  isReady: (output: string) => boolean,
): Promise<{ code: number; output: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", cli, "finetune", ...options],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  let output = "", isSent = false;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    output += text;
    if (isSent || !isReady(output)) continue;
    isSent = true;
    child.kill("SIGINT");
    // As under a task runner, which passes on what the terminal sent already.
    child.kill("SIGINT");
  }
  const { code } = await child.status;
  return { code, output: output + await errors };
}
