/**
 * LoRA: low-rank adapters as transforms of parameter trees.
 *
 * @module
 */

export { isAdapter, lora, type LoraOptions } from "./lora.ts";
export { dropAdapters, mergeAdapters, scaleAdapters } from "./merge.ts";
export { loadPeft, savePeft, type SavePeftOptions } from "./peft.ts";
export { type Report, report, type ReportRow } from "./report.ts";
