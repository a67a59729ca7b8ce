/**
 * The reference backend: plain loops over the nodes of a graph, in float32 or float64. The oracle of all tests.
 *
 * It plans nothing, so it checks the planner as well as the other backends.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Backend, Executable, Graph, Storage } from "../backend.ts";
import { bytesPerElement } from "../backend.ts";
import { ADDRESSABLE, outOfMemory } from "../budget.ts";
import type { Data, DType } from "../dtype.ts";
import { toposort } from "../graph.ts";
import { bitsOf, isHalf, narrow, widen } from "../half.ts";
import type { Call, Node, OpName, Params, StructuralParams } from "../node.ts";
import { fieldsOf } from "../ops.ts";
import { type Shape, sizeOf, stridesOf, type Type } from "../shape.ts";
import { threefry2x32 } from "../threefry.ts";
import { type Scalar, scalars } from "../scalars.ts";
import { runScan, type Workspace } from "./scan.ts";

/** How each other primitive fills its result from its operands; tuples are several results. */
type Rules = {
  readonly [K in Exclude<keyof StructuralParams, "call" | "scan" | "part">]: (
    out: Data,
    inputs: readonly Data[],
    node: Node,
    params: Params[K],
  ) => void;
};

const rules: Rules = {
  input: () => {},
  fill: (out, _, __, { value, dtype }) => out.fill(element(value, dtype)),
  iota: (out, _, { shape }, { axis }) => {
    const index = offsets(shape, shape.map((_, i) => i === axis ? 1 : 0), 0);
    out.set(index);
  },
  sum: (out, [x], { inputs: [from] }, { axes }) => {
    const to = reducedOffsets(from!.shape, axes);
    // Sums are taken in float64 whatever the precision.
    const sums = new Float64Array(out.length);
    for (let i = 0; i < to.length; i++) sums[to[i]!]! += x![i]!;
    for (let i = 0; i < out.length; i++) out[i] = sums[i]!;
  },
  max: (out, [x], { inputs: [from] }, { axes }) => {
    const to = reducedOffsets(from!.shape, axes);
    const seen = new Uint8Array(out.length);
    for (let i = 0; i < to.length; i++) {
      const o = to[i]!;
      out[o] = seen[o] ? Math.max(out[o]!, x![i]!) : x![i]!;
      seen[o] = 1;
    }
  },
  reshape: (out, [x]) => out.set(x!),
  transpose: (out, [x], { shape, inputs: [from] }, { perm }) => {
    const strides = stridesOf(from!.shape);
    pick(out, x!, offsets(shape, perm.map((axis) => strides[axis]!), 0));
  },
  expand: (out, [x], { shape, inputs: [from] }) => {
    const strides = stridesOf(from!.shape)
      .map((s, i) => from!.shape[i] === shape[i] ? s : 0);
    pick(out, x!, offsets(shape, strides, 0));
  },
  slice: (out, [x], { shape, inputs: [from] }, { start, step }) => {
    const strides = stridesOf(from!.shape);
    const steps = strides.map((s, i) => s * step[i]!);
    pick(out, x!, offsets(shape, steps, dot(start, strides)));
  },
  pad: (out, [x], { shape, dtype, inputs }, { low, interior, value }) => {
    const [from] = inputs;
    const strides = stridesOf(shape);
    const steps = strides.map((s, i) => s * (interior[i]! + 1));
    const to = offsets(from!.shape, steps, dot(low, strides));
    out.fill(element(value, dtype));
    for (let i = 0; i < to.length; i++) out[to[i]!] = x![i]!;
  },
  flip: (out, [x], { shape }, { axes }) => {
    const strides = stridesOf(shape);
    const last = shape.map((d, i) => axes.includes(i) ? d - 1 : 0);
    const steps = strides.map((s, i) => axes.includes(i) ? -s : s);
    pick(out, x!, offsets(shape, steps, dot(last, strides)));
  },
  concat: (out, inputs, { shape, inputs: nodes }, { axis }) => {
    const strides = stridesOf(shape);
    let at = 0;
    inputs.forEach((x, i) => {
      const to = offsets(nodes[i]!.shape, strides, at * strides[axis]!);
      for (let j = 0; j < to.length; j++) out[to[j]!] = x[j]!;
      at += nodes[i]!.shape[axis]!;
    });
  },
  gather: (out, [x, index], { shape, inputs: [from] }, { axis }) => {
    const { base, stride, last } = alongAxis(shape, from!.shape, axis);
    for (let i = 0; i < out.length; i++) {
      out[i] = x![base[i]! + stride * clamp(index![i]!, last)]!;
    }
  },
  scatterAdd: (out, [x, index, source], node, { axis }) => {
    const { base, stride, last } = alongAxis(
      node.inputs[1]!.shape,
      node.shape,
      axis,
    );
    out.set(x!);
    for (let i = 0; i < base.length; i++) {
      out[base[i]! + stride * clamp(index![i]!, last)]! += source![i]!;
    }
  },
  unpack: (out, [words], _, { levels }) => {
    const times = fieldsOf({ levels }), bits = 32 / times;
    for (let i = 0; i < out.length; i++) {
      const word = words![Math.floor(i / times)]!;
      const field = word >>> bits * (i % times) & 2 ** bits - 1;
      out[i] = levels ? levels[field]! : field;
    }
  },
  random: (out, [key, stream], _, { shape }) => {
    const size = sizeOf(shape);
    stream!.forEach((stream, batch) => {
      const words: [number, number] = [key![2 * batch]!, key![2 * batch + 1]!];
      for (let i = 0; i < size; i++) {
        const both = threefry2x32(words, [i >>> 1, stream]);
        out[batch * size + i] = both[i % 2]!;
      }
    });
  },
  matmul: (out, [a, b], { shape, inputs: [left] }) => {
    const k = left!.shape.at(-1)!, n = shape.at(-1)!, m = shape.at(-2)!;
    const row = new Float64Array(n);
    for (let i = 0; i < out.length / n; i++) {
      const matrix = Math.floor(i / m) * k * n;
      row.fill(0);
      for (let p = 0; p < k; p++) {
        const v = a![i * k + p]!;
        const at = matrix + p * n;
        for (let j = 0; j < n; j++) row[j]! += v * b![at + j]!;
      }
      out.set(row, i * n);
    }
  },
  after: (out, [x]) => out.set(x!),
};

/** Values of the outputs of a graph, given those of its inputs. */
function evaluateGraph(
  graph: Graph,
  inputs: readonly Data[],
  work: Workspace,
): Data[] {
  const values = new Map<Node, Data>();
  const tuples = new Map<Node, readonly Data[]>();
  graph.inputs.forEach((node, i) => values.set(node, inputs[i]!));
  for (const node of toposort(graph.outputs)) {
    if (values.has(node)) continue;
    const operands = node.inputs.map((x) => values.get(x)!);
    if (node.op === "call" || node.op === "scan") {
      const { body } = node.params as Call;
      const step = (operands: readonly Data[]) =>
        evaluateGraph(body, operands, work);
      const isCall = node.op === "call";
      tuples.set(
        node,
        isCall ? step(operands) : runScan(node, operands, step, work),
      );
    } else if (node.op === "part") {
      const { index } = node.params as Params["part"];
      values.set(node, tuples.get(node.inputs[0]!)![index]!);
    } else {
      const out = work.create(node);
      evaluate(node, operands, out);
      values.set(node, out);
    }
  }
  return graph.outputs.map((node) => values.get(node)!);
}

function evaluate(node: Node, inputs: readonly Data[], out: Data): void {
  const scalar = (scalars as Partial<Record<OpName, Scalar>>)[node.op];
  if (!scalar) {
    const rule = rules[node.op as keyof Rules] as Rules["input"];
    rule(out, inputs, node, node.params as Params["input"]);
    return;
  }
  const { dtype } = node;
  const from = node.inputs[0]?.dtype;
  const [a, b = a, c = a] = isHalf(from) ? [widen(inputs[0]!, from)] : inputs;
  // What gives halves keeps the number.
  if (isHalf(dtype)) return out.set(narrow(a!, dtype));
  for (let i = 0; i < out.length; i++) {
    out[i] = scalar(a![i]!, b![i]!, c![i]!, dtype, from);
  }
}

/** A number as an element of a host array: halves are bits there. */
function element(value: number, dtype: DType): number {
  return isHalf(dtype) ? bitsOf(value, dtype) : value;
}

/** Offset of each point of a shape, in row-major order, for given strides. */
function offsets(
  shape: Shape,
  strides: readonly number[],
  start: number,
): Int32Array {
  let out = Int32Array.of(start);
  shape.forEach((size, axis) => {
    const next = new Int32Array(out.length * size);
    for (let i = 0; i < out.length; i++) {
      for (let j = 0; j < size; j++) {
        next[i * size + j] = out[i]! + j * strides[axis]!;
      }
    }
    out = next;
  });
  return out;
}

/** For each element of a shape, where it goes when axes are reduced. */
function reducedOffsets(shape: Shape, axes: Shape): Int32Array {
  const strides = stridesOf(shape.map((d, i) => axes.includes(i) ? 1 : d));
  return offsets(shape, strides.map((s, i) => axes.includes(i) ? 0 : s), 0);
}

/** Offsets into `target` but for one axis, the stride of that axis, and its last index. */
function alongAxis(
  shape: Shape,
  target: Shape,
  axis: number,
): { base: Int32Array; stride: number; last: number } {
  const strides = stridesOf(target);
  const others = strides.map((s, i) => i === axis ? 0 : s);
  return {
    base: offsets(shape, others, 0),
    stride: strides[axis]!,
    last: target[axis]! - 1,
  };
}

function pick(out: Data, x: Data, from: Int32Array): void {
  for (let i = 0; i < from.length; i++) out[i] = x[from[i]!]!;
}

function clamp(index: number, last: number): number {
  return Math.max(0, Math.min(index, last));
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0);
}

/** Elements on the host. */
interface HostStorage extends Storage {
  data: Data | null;
}

function allocate(dtype: DType, size: number, precision: "f32" | "f64"): Data {
  switch (dtype) {
    case "f32":
      return precision === "f64"
        ? new Float64Array(size)
        : new Float32Array(size);
    case "i32":
      return new Int32Array(size);
    case "u32":
      return new Uint32Array(size);
    case "f16":
    case "bf16":
      return new Uint16Array(size);
    case "bool":
      return new Uint8Array(size);
  }
}

/** The reference backend; precision "f64" computes every f32 in float64. It takes at most `budget` bytes. */
export function createReferenceBackend(
  precision: "f32" | "f64" = "f32",
  budget: number = ADDRESSABLE,
): Backend {
  let liveBytes = 0;

  /** Bytes of a value, which must be within the budget beside what lives and what is `held` by a program. */
  function claim(type: Type, held: number): number {
    const bytes = sizeOf(type.shape) * bytesPerElement(type.dtype, precision);
    if (liveBytes + held + bytes <= budget) return bytes;
    throw outOfMemory(type, bytes, liveBytes + held, budget);
  }

  function store(data: Data, dtype: DType): HostStorage {
    const bytes = data.length * bytesPerElement(dtype, precision);
    liveBytes += bytes;
    return { data, bytes };
  }

  function free(storage: Storage): void {
    const host = storage as HostStorage;
    if (!host.data) return;
    liveBytes -= host.bytes;
    host.data = null;
  }

  function compile(graph: Graph, donated: readonly boolean[]): Executable {
    function run(storages: readonly Storage[]): Storage[] {
      const inputs = storages.map((storage) => (storage as HostStorage).data!);
      let held = 0;
      const outputs = evaluateGraph(graph, inputs, {
        create: (type) => {
          held += claim(type, held);
          return allocate(type.dtype, sizeOf(type.shape), precision);
        },
        passing: (f) => {
          const before = held;
          const result = f();
          held = before;
          return result;
        },
      });
      // A storage belongs to one tensor, so what comes out is a copy where it went in or comes out twice.
      const taken = new Set<Data>(inputs);
      const results = outputs.map((data, i) => {
        const own = taken.has(data) ? data.slice() : data;
        taken.add(data);
        return store(own, graph.outputs[i]!.dtype);
      });
      donated.forEach((gone, i) => gone && free(storages[i]!));
      return results;
    }
    return { run, dispose: () => {} };
  }

  return {
    name: "reference",
    adapter: `plain loops, ${precision}`,
    precision,
    limits: {
      buffersPerKernel: 64,
      buffersPerLaunch: Infinity,
      bytesPerBuffer: 2 ** 32,
      bytesPerBinding: 2 ** 32,
      alignment: 16,
    },
    create: ({ shape, dtype }) => {
      claim({ shape, dtype }, 0);
      return store(allocate(dtype, sizeOf(shape), precision), dtype);
    },
    write: (storage, _dtype, offset, data) =>
      (storage as HostStorage).data!.set(data, offset),
    upload: (data, dtype, shape = [data.length]) => {
      claim({ shape, dtype }, 0);
      return store(data.slice(), dtype);
    },
    download: (storage) =>
      Promise.resolve((storage as HostStorage).data!.slice()),
    free,
    compile,
    memory: () => ({ liveBytes, reservedBytes: liveBytes }),
    dispose: () => {},
  };
}
