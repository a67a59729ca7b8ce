/**
 * The device: asked for with the limits its adapter has, and watched for errors, of which none may pass unseen.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DeviceError } from "../core/errors.ts";

/** What is asked of an adapter. */
export interface DeviceOptions {
  /** A device to share; it is not destroyed with the backend. */
  readonly device?: GPUDevice;
  /** Whether a software adapter will do. */
  readonly allowFallback?: boolean;
}

/** A device and its state. */
export class Device {
  /** The adapter's own description. */
  readonly description: string;
  /** Whether the adapter is a rasterizer on the processor. */
  readonly isSoftware: boolean;
  readonly #owned: boolean;
  readonly #checks = new Set<Promise<unknown>>();
  #failure: DeviceError | null = null;

  /** Watches a device; `owned` tells whether it is destroyed on disposal. */
  constructor(
    readonly gpu: GPUDevice,
    info: GPUAdapterInfo | undefined,
    owned: boolean,
  ) {
    this.description = describe(info);
    this.isSoftware = isSoftware(info);
    this.#owned = owned;
    gpu.lost.then(({ message, reason }) => {
      this.fail(`The WebGPU device is lost: ${message || reason}`);
    });
    if (owned) gpu.addEventListener("uncapturederror", this.#onError);
  }

  /** Throws if the device has failed. */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Waits for all checks that are under way, then throws if the device has failed. */
  async settled(): Promise<void> {
    while (this.#checks.size > 0) await Promise.all(this.#checks);
    this.check();
  }

  /** Marks the device as failed: results after this would be wrong. */
  fail(message: string): void {
    this.#failure ??= new DeviceError(message);
  }

  /** Runs `create` and notes validation errors; `what` names in the message what was being made. */
  checked<T>(what: string, create: () => T): T {
    this.gpu.pushErrorScope("validation");
    const result = create();
    const check = this.gpu.popErrorScope().then(
      (error) => {
        if (!error) return;
        // The cause of whatever else has been reported.
        const message = `WebGPU rejected ${what}: ${error.message}`;
        this.#failure = new DeviceError(message);
      },
      () => this.fail(`WebGPU could not check ${what}: the device is gone`),
    ).finally(() => this.#checks.delete(check));
    this.#checks.add(check);
    return result;
  }

  /** Destroys the device if it was opened here; no call succeeds after this. */
  dispose(): void {
    this.fail("The WebGPU backend is disposed of");
    if (!this.#owned) return;
    this.gpu.removeEventListener("uncapturederror", this.#onError);
    this.gpu.destroy();
  }

  readonly #onError = (event: Event): void => {
    event.preventDefault();
    this.fail(
      `WebGPU error: ${(event as GPUUncapturedErrorEvent).error.message}`,
    );
  };
}

/** A device; null where there is no adapter that will do. */
export async function openDevice(
  { device, allowFallback = false }: DeviceOptions,
): Promise<Device | null> {
  if (device) return new Device(device, device.adapterInfo, false);
  const adapter = await navigator.gpu?.requestAdapter({
    powerPreference: "high-performance",
  });
  if (!adapter || (isSoftware(adapter.info) && !allowFallback)) return null;
  const { info, limits } = adapter;
  const opened = await adapter.requestDevice({
    // Some engines give limits as BigInt.
    requiredLimits: {
      maxBufferSize: Number(limits.maxBufferSize),
      maxStorageBufferBindingSize: Number(limits.maxStorageBufferBindingSize),
    },
  });
  return new Device(opened, info, true);
}

function isSoftware(info: GPUAdapterInfo | undefined): boolean {
  return info?.isFallbackAdapter === true ||
    /llvmpipe|swiftshader|basic render/i.test(describe(info));
}

function describe(info: GPUAdapterInfo | undefined): string {
  const { vendor, architecture, description } = info ?? {};
  return description || [vendor, architecture].filter(Boolean).join(" ") ||
    "unknown WebGPU adapter";
}
