/**
 * The backends that the tests of `gpu` run on: every schedule, on whatever adapter there is.
 *
 * @module
 */

import { WebGpuBackend } from "../../gpu/backend.ts";
import { openDevice } from "../../gpu/device.ts";
import { type ScheduleName, schedules } from "../../gpu/schedule.ts";

/** Whether the tests must run: continuous integration has a software adapter. */
const required = Deno.env.get("CI") === "true";

const present = (await navigator.gpu?.requestAdapter()) ?? null;

/** Whether to ignore a test for want of an adapter. */
export const ignore: boolean = !present && !required;

/** How long bindings and buffers may be, in bytes. */
export interface Longest {
  readonly binding?: number;
  readonly buffer?: number;
}

/** Names of all schedules. */
export const scheduleNames = Object.keys(schedules) as ScheduleName[];

/**
 * Opens a backend with a schedule, whether it suits the adapter or not, and with bindings and buffers as long as the
 * device allows unless they are to be shorter.
 */
export async function openBackend(
  schedule: ScheduleName = "software",
  memory: number = 2 ** 30,
  { binding, buffer }: Longest = {},
): Promise<WebGpuBackend> {
  const device = await openDevice({ allowFallback: true });
  if (!device) throw new Error("There is no WebGPU adapter");
  const { maxBufferSize, maxStorageBufferBindingSize } = device.gpu.limits;
  return new WebGpuBackend(
    device,
    schedules[schedule],
    memory,
    {
      maxBufferSize: buffer ?? maxBufferSize,
      maxStorageBufferBindingSize: binding ?? maxStorageBufferBindingSize,
    },
  );
}
