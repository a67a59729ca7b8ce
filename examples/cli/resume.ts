/**
 * What a run needs to go on after it was stopped: what it has learned, the optimizer's state, and its step.
 *
 * Batches, draws and rates depend on seed and step alone, so that a run that goes on ends in the same bits as one that
 * never stopped.
 *
 * @module
 */

import { FormatError, tree } from "../../core/mod.ts";
import { readSafetensors, saveSafetensors } from "../../nn/checkpoint/mod.ts";
import { UsageError } from "./args.ts";
import type { Learner } from "./learner.ts";
import type { Standing } from "./train.ts";

/** The options of a run that its course depends on. */
export type Course = Readonly<Record<string, unknown>>;

/** Name of the file in the folder of the result; it is there while a run is not complete. */
const FILE = "training.safetensors";

/** Writes where a run stands. */
export async function saveStanding(
  out: string,
  { trainable, state, steps }: Standing,
  course: Course,
): Promise<void> {
  await saveSafetensors(`${out}/${FILE}`, { trainable, state }, {
    metadata: { steps: String(steps), course: JSON.stringify(course) },
  });
}

/** Removes what `saveStanding` wrote. */
export async function removeStanding(out: string): Promise<void> {
  try {
    await Deno.remove(`${out}/${FILE}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Where a run stopped. Throws `UsageError` where there is none, or one with other options. */
export async function loadStanding(
  out: string,
  learner: Learner,
  course: Course,
): Promise<Standing> {
  const path = `${out}/${FILE}`;
  try {
    await Deno.stat(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UsageError(
      `there is nothing to resume in ${out}: a run that was stopped leaves ${FILE} there`,
    );
  }
  const { tensors, metadata } = await readSafetensors(path);
  const before: Course = JSON.parse(metadata.course ?? "{}");
  for (const name of Object.keys(course)) {
    const [own, other] = [course, before].map((c) => JSON.stringify(c[name]));
    if (own === other) continue;
    throw new UsageError(
      `--resume needs the options of the run in ${out}: --${name} was ${other}, and is ${own}`,
    );
  }
  const { trainable, frozen } = learner;
  const start = { trainable, state: learner.init(trainable) };
  const paths = tree.leaves(start).map(({ path }) => path);
  const missing = paths.find((path) => !Object.hasOwn(tensors, path));
  if (missing !== undefined || paths.length !== Object.keys(tensors).length) {
    throw new FormatError(
      `Cannot resume from ${path}: it holds ${
        Object.keys(tensors).length
      } tensors, and the run has ${paths.length}${
        missing === undefined ? "" : `, ${missing} among them`
      }`,
    );
  }
  const now = tree.fromLeaves(start, paths.map((path) => tensors[path]!));
  for (const { leaf } of tree.leaves(start)) leaf.dispose();
  return { ...now, frozen, steps: Number(metadata.steps) };
}
