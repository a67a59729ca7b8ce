/**
 * What `deno task test:full` runs: all tests, with the slow ones and many times as many random cases.
 *
 * A process for each folder, so that what engines and adapters do not give back does not pile up.
 *
 * @module
 */

import { type Counts, sumUp, tests, totalOf } from "./support/parts.ts";

/** Random cases that there must be. */
const LEAST_RUNS = 20_000;

/** The files of tests by their folders. */
function filesOf(
  folder: string,
  found = new Map<string, string[]>(),
): Map<string, string[]> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) filesOf(path, found);
    if (!name.endsWith("_test.ts")) continue;
    found.set(folder, [...found.get(folder) ?? [], path]);
  }
  return found;
}

const start = performance.now();
const minutes = (from: number): string =>
  `${((performance.now() - from) / 60_000).toFixed(1)} min`;

const parts: Counts[] = [];
for (const [folder, files] of [...filesOf("tests")].sort()) {
  const from = performance.now();
  const counts = await tests(
    ["--no-check", "--v8-flags=--expose-gc", ...files.sort()],
    { COTAN_FULL: "1" },
  );
  console.log(`${folder}: ${counts.runs} property runs, ${minutes(from)}`);
  parts.push(counts);
}
// The examples of the documentation.
const sources = ["core", "nn", "lora", "gpu", "examples", "bench"];
parts.push(
  await tests([
    "--quiet",
    "--doc",
    "README.md",
    "mod.ts",
    "cli.ts",
    ...sources,
  ]),
);

const { runs } = totalOf(parts);
console.log(`\n${runs} property runs in ${minutes(start)}`);
const tooFew = runs < LEAST_RUNS ? 1 : 0;
if (tooFew) console.log(`There must be ${LEAST_RUNS} of them`);
sumUp([...parts, { passed: 0, failed: tooFew, skipped: 0, runs: 0 }]);
