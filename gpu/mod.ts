/**
 * The WebGPU backend.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Backend } from "../core/backend.ts";
import { WebGpuBackend } from "./backend.ts";
import { type DeviceOptions, openDevice } from "./device.ts";
import { schedules } from "./schedule.ts";
import { selfTest } from "./self_test.ts";

// What the types of a backend refer to.
export type * from "../core/backend.ts";
export type * from "../core/dtype.ts";
export type * from "../core/fused_spec.ts";
export type * from "../core/node.ts";
export type * from "../core/plan/kernel.ts";
export type * from "../core/shape.ts";
export type { DeviceOptions } from "./device.ts";

/** How to open the WebGPU backend. */
export interface WebGpuOptions extends DeviceOptions {
  /** Most bytes to take of the device, 8 GiB unless given: WebGPU does not tell how much there is. */
  readonly memory?: number;
}

/**
 * Opens the WebGPU backend. Null where there is no adapter, or only a software one and `allowFallback` is not set.
 * Throws a `DeviceError` if the adapter computes wrongly.
 */
export async function openWebGpu(
  options: WebGpuOptions = {},
): Promise<Backend | null> {
  const device = await openDevice(options);
  if (!device) return null;
  const backend = new WebGpuBackend(
    device,
    device.isSoftware ? schedules.software : schedules.hardware,
    options.memory ?? 8 * 2 ** 30,
  );
  await selfTest(backend);
  return backend;
}
