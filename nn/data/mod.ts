/**
 * Training data: examples from files, rows of token ids, batches, and the training of a tokenizer.
 *
 * @module
 */

export {
  type Batch,
  orderedBatches,
  shuffledBatches,
  type ShuffleOptions,
} from "./batches.ts";
export { type Bpe, type BpeOptions, trainBpe } from "./bpe.ts";
export {
  type Example,
  type ExampleFormat,
  exampleFormat,
  type Message,
  parseExamples,
} from "./examples.ts";
export { type Dataset, readDataset, readExamples } from "./read.ts";
export {
  batches,
  type Cursor,
  type LoadedBatch,
  type LoadOptions,
} from "./loader.ts";
export {
  type Row,
  rowLengths,
  type RowOptions,
  type Rows,
  toBuckets,
  toRows,
} from "./rows.ts";
export {
  type Chat,
  promptIds,
  type RowTokenizer,
  type SequenceOptions,
} from "./sequences.ts";
export { holdOut } from "./split.ts";
export {
  type Json,
  tokenizerConfigJson,
  tokenizerJson,
} from "./tokenizer_json.ts";
