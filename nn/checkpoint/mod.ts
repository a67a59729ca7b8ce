/**
 * Checkpoints: safetensors files, tokenizers, and folders with a model.
 *
 * @module
 */

export type { ChatMessage, ChatOptions, ChatTemplate } from "./chat.ts";
export type { HubOptions } from "./hub.ts";
export {
  fromPretrained,
  type Pretrained,
  type PretrainedOptions,
} from "./pretrained.ts";
export {
  type FileDType,
  inspectSafetensors,
  type LoadDType,
  loadSafetensors,
  type LoadTensorOptions,
  parseSafetensors,
  type Path,
  readSafetensors,
  type Safetensors,
  type TensorInfo,
} from "./safetensors.ts";
export {
  encodeSafetensors,
  type SafetensorsOptions,
  type SaveDType,
  saveSafetensors,
} from "./safetensors_save.ts";
export {
  savePretrained,
  type SavePretrainedOptions,
} from "./save_pretrained.ts";
export type { Progress, StreamOptions } from "./stream.ts";
export { createTokenizer, loadTokenizer, type Tokenizer } from "./tokenizer.ts";
