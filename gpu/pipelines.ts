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

/** Programs keep what they run: fewer would only be made anew where sizes come back. */
const PIPELINES_KEPT = 1024;

/** The pipelines of a device: those that were asked for last. */
export class Pipelines {
  readonly #device: Device;
  readonly #most: number;
  readonly #pipelines = new Map<string, Pipeline>();

  /** Makes pipelines on a device, and keeps at most so many of them. */
  constructor(device: Device, most = PIPELINES_KEPT) {
    this.#device = device;
    this.#most = most;
  }

  /** The pipeline of a shader; `writable` tells of each binding how the shader declares it. */
  get(code: string, writable: readonly boolean[]): Pipeline {
    const known = this.#pipelines.get(code);
    if (known) {
      this.#pipelines.delete(code);
    } else if (this.#pipelines.size >= this.#most) {
      this.#pipelines.delete(this.#pipelines.keys().next().value!);
    }
    const pipeline = known ??
      this.#device.checked("a shader", () => this.#create(code, writable));
    this.#pipelines.set(code, pipeline);
    return pipeline;
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
