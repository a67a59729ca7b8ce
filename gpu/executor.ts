/**
 * Programs: the dispatches of a plan with their pipelines, and the bindings of each to the storages of a run.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement, type Executable } from "../core/backend.ts";
import { checkBuffer } from "../core/budget.ts";
import type { Place, Plan } from "../core/plan/kernel.ts";
import { walkSteps } from "../core/plan/loops.ts";
import type { Type } from "../core/shape.ts";
import type { Arena } from "./arena.ts";
import type { Batch } from "./batch.ts";
import { type Buffers, type GpuStorage, roundUp } from "./buffers.ts";
import type { Device } from "./device.ts";
import { type Dispatch, lower } from "./lower.ts";
import type { Pipeline, Pipelines } from "./pipelines.ts";
import type { Schedule } from "./schedule.ts";
import { isScratch } from "./scratch.ts";
import type { GpuLimits } from "./windows.ts";

/** What programs run on. */
export interface Machine {
  /** The device. */
  readonly device: Device;
  /** How kernels are laid out on it. */
  readonly schedule: Schedule;
  /** What kernels may reach. */
  readonly limits: GpuLimits;
  /** Where work is recorded. */
  readonly batch: Batch;
  /** Where storages come from. */
  readonly buffers: Buffers;
  /** Where intermediate values live. */
  readonly arena: Arena;
  /** Where pipelines are kept. */
  readonly pipelines: Pipelines;
}

/** A planned program. */
export class GpuProgram implements Executable {
  readonly #machine: Machine;
  readonly #plan: Plan;
  readonly #types: readonly Type[];
  /** The dispatches of each step. */
  readonly #steps: readonly (readonly BoundDispatch[])[];
  readonly #pages: readonly number[];

  /** Makes the pipelines of a plan; `types` are those of its results. */
  constructor(machine: Machine, plan: Plan, types: readonly Type[]) {
    const { limits, pipelines, schedule } = machine;
    // Before there are shaders: one that counts beyond u32 is rejected later, with the device.
    plan.outputs.forEach((source, i) => {
      if (source.kind === "input") return;
      const bytes = source.size * bytesPerElement(source.dtype);
      const wanted = types[i] ?? "a result";
      checkBuffer(wanted, bytes, limits.bytesPerBuffer);
    });
    const dispatches = plan.steps.map((step) => lower(step, schedule, limits));
    this.#machine = machine;
    this.#plan = plan;
    // Not nodes, which would keep their graph.
    this.#types = types.map(({ shape, dtype }) => ({ shape, dtype }));
    this.#steps = dispatches.map((parts) =>
      parts.map((dispatch) =>
        new BoundDispatch(
          dispatch,
          pipelines.get(dispatch.code, dispatch.writable),
        )
      )
    );
    this.#pages = [scratchBytes(dispatches.flat()), ...plan.pages];
  }

  run(inputs: readonly GpuStorage[]): GpuStorage[] {
    const { device, batch, buffers, arena } = this.#machine;
    device.check();
    arena.reserve(this.#pages);
    const outputs = this.#outputs(inputs);
    const groups = this.#steps.map((parts) =>
      parts.map((part) => part.bind(this.#machine, inputs, outputs))
    );
    const run = (step: number): void =>
      this.#steps[step]!.forEach(({ pipeline, dispatch }, i) => {
        const { workgroups, work } = dispatch;
        batch.dispatch(pipeline.pipeline, groups[step]![i]!, workgroups, work);
      });
    walkSteps(this.#plan, run, (trips, body) => {
      for (let trip = 0; trip < trips; trip++) body();
    });
    for (const index of this.#plan.freed) buffers.give(inputs[index]!);
    return outputs;
  }

  #outputs(inputs: readonly GpuStorage[]): GpuStorage[] {
    const { buffers } = this.#machine;
    const taken: GpuStorage[] = [];
    try {
      return this.#plan.outputs.map((source, i) => {
        if (source.kind === "input") return inputs[source.index]!;
        const bytes = source.size * bytesPerElement(source.dtype);
        const storage = buffers.take(bytes, this.#types[i] ?? "a result");
        taken.push(storage);
        return storage;
      });
    } catch (error) {
      // The budget does not reach: what was donated is not touched yet.
      taken.forEach((storage) => buffers.give(storage));
      throw error;
    }
  }

  dispose(): void {
    this.#machine.arena.release(this.#pages);
  }
}

// Donation and the pool make inputs alternate between a few storages.
const mostGroups = 16;

/** A dispatch and the bind groups it has run with. */
class BoundDispatch {
  readonly #groups = new Map<string, GPUBindGroup>();
  /** Places outside the arena. */
  readonly #outside: readonly Exclude<Place, { kind: "arena" }>[];
  #version = -1;

  constructor(readonly dispatch: Dispatch, readonly pipeline: Pipeline) {
    this.#outside = dispatch.places.filter((place) => place.kind !== "arena");
  }

  /** The bind group for the storages of a run. */
  bind(
    machine: Machine,
    inputs: readonly GpuStorage[],
    outputs: readonly GpuStorage[],
  ): GPUBindGroup {
    if (this.#version !== machine.arena.version) {
      this.#version = machine.arena.version;
      this.#groups.clear();
    }
    let key = "";
    for (const { kind, index } of this.#outside) {
      key += (kind === "input" ? inputs : outputs)[index]!.block.id + " ";
    }
    let group = this.#groups.get(key);
    if (!group) {
      group = this.#create(machine, inputs, outputs);
      if (this.#groups.size === mostGroups) {
        this.#groups.delete(this.#groups.keys().next().value!);
      }
      this.#groups.set(key, group);
    }
    return group;
  }

  #create(
    { device, arena, limits }: Machine,
    inputs: readonly GpuStorage[],
    outputs: readonly GpuStorage[],
  ): GPUBindGroup {
    const resource = (place: Place, start: number): GPUBufferBinding => {
      const storage = place.kind === "input"
        ? inputs[place.index]!
        : place.kind === "output"
        ? outputs[place.index]!
        : null;
      const bytes = place.kind === "arena" ? place.bytes : storage!.bytes;
      // Whole vectors, and no binding may be empty.
      const size = Math.min(roundUp(bytes - start, 16), limits.bytesPerBinding);
      return place.kind === "arena"
        ? arena.page(place.page + 1).binding(place.offset + start, size)
        : storage!.block.region.binding(start, size);
    };
    return device.gpu.createBindGroup({
      layout: this.pipeline.layout,
      entries: this.dispatch.places.map((place, binding) => ({
        binding,
        resource: resource(place, this.dispatch.starts[binding]!),
      })),
    });
  }
}

/** Bytes of the page that comes before those of the plan. */
function scratchBytes(dispatches: readonly Dispatch[]): number {
  const places = dispatches.flatMap((dispatch) => dispatch.places);
  return Math.max(
    0,
    ...places.map((place) => isScratch(place) ? place.offset + place.bytes : 0),
  );
}
