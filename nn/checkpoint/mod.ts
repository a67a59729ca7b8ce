/**
 * Checkpoints: safetensors files, tokenizers, and folders with a model.
 *
 * @module
 */

export {
  fromPretrained,
  type Pretrained,
  type PretrainedOptions,
  savePretrained,
  type SavePretrainedOptions,
} from "./pretrained.ts";
export {
  encodeSafetensors,
  type FileDType,
  inspectSafetensors,
  loadSafetensors,
  parseSafetensors,
  type Path,
  readSafetensors,
  type Safetensors,
  type SafetensorsOptions,
  saveSafetensors,
  type TensorInfo,
} from "./safetensors.ts";
export { createTokenizer, loadTokenizer, type Tokenizer } from "./tokenizer.ts";
