/**
 * Pipelines, kept by the text of their shaders.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Device } from "./device.ts";

/** A pipeline and the layout of its bindings. */
export interface Pipeline {
  /** The pipeline. */
  readonly pipeline: GPUComputePipeline;
  /** The layout. */
  readonly layout: GPUBindGroupLayout;
}

/** The pipelines of a device. */
export class Pipelines {
  readonly #device: Device;
  readonly #pipelines = new Map<string, Pipeline>();

  /** Makes pipelines on a device. */
  constructor(device: Device) {
    this.#device = device;
  }

  /** How many there are. */
  get size(): number {
    return this.#pipelines.size;
  }

  /** The pipeline of a shader; `writable` tells of each binding how the shader declares it. */
  get(code: string, writable: readonly boolean[]): Pipeline {
    let found = this.#pipelines.get(code);
    if (!found) {
      found = this.#device.checked(
        "a shader",
        () => this.#create(code, writable),
      );
      this.#pipelines.set(code, found);
    }
    return found;
  }

  #create(code: string, writable: readonly boolean[]): Pipeline {
    const { gpu } = this.#device;
    const layout = gpu.createBindGroupLayout({
      entries: writable.map((writes, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: writes ? "storage" : "read-only-storage" },
      })),
    });
    const pipeline = gpu.createComputePipeline({
      layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: gpu.createShaderModule({ code }) },
    });
    return { pipeline, layout };
  }
}
