import { assert } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { hasWebGpu } from "../../support/backends.ts";
import { inFolder } from "./support.ts";
import { SMALL, writeSynthetic } from "./synthetic.ts";

interface Cost {
  readonly seconds: number;
  readonly peak: number;
  readonly weights: number;
}

async function measure(folder: string, ...options: string[]): Promise<Cost> {
  const script = fromFileUrl(new URL("peak_script.ts", import.meta.url));
  const { stdout, stderr, success } = await new Deno.Command(
    Deno.execPath(),
    { args: ["run", "--allow-all", "--quiet", script, folder, ...options] },
  ).output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

for (const backend of ["wasm", "webgpu"]) {
  Deno.test({
    name:
      `a sharded model of halves loads on ${backend} with a peak of at most 1.15 times its weights`,
    // The peak is read from /proc.
    ignore: Deno.build.os !== "linux" || backend === "webgpu" && !hasWebGpu,
    fn: () =>
      inFolder(async (folder) => {
        await writeSynthetic(folder, SMALL, 3);
        for (const dtype of ["f32", "bf16"]) {
          const { seconds, peak, weights } = await measure(
            folder,
            backend,
            dtype,
          );
          const ratio = peak / weights;
          assert(ratio <= 1.15, `the peak is ${ratio} times the ${dtype}`);
          // Half a second on a quiet machine; this is the bound with all else that tests do.
          assert(seconds < 10, `it took ${seconds} s`);
        }
      }),
  });
}
