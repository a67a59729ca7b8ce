/**
 * A backend that runs plans one point at a time on arrays of numbers: slow, plain, and with any limits, so that the
 * planner is tested apart from the backends. Every f32 is a float64.
 *
 * @module
 */

import type { Backend, Limits, Storage } from "../../core/backend.ts";
import type {
  Expr,
  FusedKernel,
  Kernel,
  Matrix,
  Output,
  Place,
  Plan,
  View,
} from "../../core/plan/kernel.ts";
import { createReferenceBackend } from "../../core/cpu/interpreter.ts";
import { isHalf, narrow, rounded, widen } from "../../core/half.ts";
import { walkSteps } from "../../core/plan/loops.ts";
import type { Data, DType, Shape } from "cotan";
import { convert, scalars, unpacked, wrap } from "./scalars.ts";
import { sizeOf } from "./values.ts";

/** Words of a storage or a page, one number each. */
type Words = Float64Array;

interface HostStorage extends Storage {
  words: Words | null;
}

/** A backend with limits of one's choice; `see` gets each plan. */
export function createPlanBackend(
  limits: Limits,
  see: (plan: Plan) => void = () => {},
): Backend {
  let liveBytes = 0;
  function store(words: Words): HostStorage {
    liveBytes += words.length * 4;
    return { words, bytes: words.length * 4 };
  }
  function free(storage: Storage): void {
    const host = storage as HostStorage;
    if (host.words) liveBytes -= host.bytes;
    host.words = null;
  }
  return {
    name: "reference",
    adapter: "plans, one point at a time",
    precision: "f64",
    limits,
    create: ({ shape }) => store(new Float64Array(sizeOf(shape))),
    write: (storage, dtype, offset, data) =>
      (storage as HostStorage).words!.set(toWords(data, dtype), offset),
    upload: (data, dtype) => store(Float64Array.from(toWords(data, dtype))),
    download: (storage, dtype) =>
      Promise.resolve(fromWords((storage as HostStorage).words!, dtype)),
    free,
    compile: (_, __, makePlan) => {
      const plan = makePlan();
      see(plan);
      const run = (storages: readonly Storage[]): Storage[] => {
        const inputs = storages as readonly HostStorage[];
        const fresh = runPlan(plan, inputs.map(({ words }) => words!));
        const results = plan.outputs.map((source, i) =>
          source.kind === "input" ? inputs[source.index]! : store(fresh[i]!)
        );
        for (const i of plan.freed) free(inputs[i]!);
        return results;
      };
      return { run, dispose: () => {} };
    },
    memory: () => ({ liveBytes, reservedBytes: liveBytes }),
    dispose: () => {},
  };
}

function toWords(data: Data, dtype: DType): Data {
  return isHalf(dtype) ? widen(data, dtype) : data;
}

function fromWords(words: Words, dtype: DType): Data {
  switch (dtype) {
    case "f32":
      return words.slice();
    case "f16":
    case "bf16":
      return narrow(words, dtype);
    case "i32":
      return Int32Array.from(words);
    case "u32":
      return Uint32Array.from(words);
    case "bool":
      return Uint8Array.from(words);
  }
}

/** Runs a plan on its inputs, which it may overwrite; returns the new outputs. */
function runPlan(plan: Plan, inputs: readonly Words[]): Words[] {
  // Nothing is 0 by luck: what no kernel has written is NaN.
  const fresh = plan.outputs.map((o) =>
    new Float64Array(o.kind === "new" ? o.size : 0).fill(NaN)
  );
  // Halves take two bytes.
  const pages = plan.pages.map((bytes) =>
    new Float64Array(bytes / 2).fill(NaN)
  );
  const at = (place: Place): Words => {
    if (place.kind === "input") return inputs[place.index]!;
    if (place.kind === "output") return fresh[place.index]!;
    const { page, offset, bytes } = place;
    return pages[page]!.subarray(offset / 2, (offset + bytes) / 2);
  };
  const run = (step: number): void => {
    const { kernel, buffers } = plan.steps[step]!;
    runKernel(kernel, buffers.map(at));
  };
  walkSteps(plan, run, (trips, body) => {
    for (let trip = 0; trip < trips; trip++) body();
  });
  return fresh;
}

function runKernel(kernel: Kernel, buffers: readonly Words[]): void {
  const put = (
    outputs: readonly Output[],
    point: Shape,
    accs: readonly number[],
  ): void => {
    const values = outputs.map(({ expr }) =>
      evaluate(expr, buffers, point, accs)
    );
    outputs.forEach(({ buffer, view }, i) =>
      write(buffers[buffer]!, offset(view, point), values[i]!)
    );
  };
  switch (kernel.kind) {
    case "group":
      for (const part of kernel.parts) runKernel(part, buffers);
      return;
    case "map":
      for (const point of points(kernel.shape)) put(kernel.outputs, point, []);
      return;
    case "reduce":
      for (const point of points(kernel.shape)) {
        const accs: number[] = [];
        for (const { reductions, outputs } of kernel.passes) {
          const next = reductions.map(({ combine }) =>
            combine === "sum" ? 0 : -Infinity
          );
          for (const rest of points(kernel.over)) {
            const at = [...point, ...rest];
            const terms = reductions.map(({ body }) =>
              evaluate(body, buffers, at, accs)
            );
            terms.forEach((x, i) =>
              next[i] = reductions[i]!.combine === "sum"
                ? next[i]! + x
                : Math.max(next[i]!, x)
            );
            put(outputs, at, accs);
          }
          accs.push(
            ...next.map((acc, i) => wrap(acc, reductions[i]!.body.dtype)),
          );
        }
        put(kernel.outputs, point, accs);
      }
      return;
    case "matmul": {
      const element = ({ expr, buffer, view }: Matrix, at: Shape): number =>
        expr
          ? evaluate(expr, buffers, at, [])
          : read(buffers[buffer]!, offset(view, at));
      const { a, b } = kernel;
      for (const point of points(kernel.shape)) {
        const batch = point.slice(0, -2),
          [i, j] = point.slice(-2) as [number, number];
        let acc = 0;
        for (let k = 0; k < kernel.k; k++) {
          const x = element(a, [...batch, i, k]);
          acc += x * element(b, [...batch, k, j]);
        }
        put(kernel.outputs, point, [acc]);
      }
      return;
    }
    case "fused": {
      runDefinition(kernel, buffers);
      return;
    }
    case "scatter": {
      const { view, stride, size } = kernel;
      const into = buffers[kernel.buffer]!;
      for (const point of points(kernel.shape)) {
        const index = evaluate(kernel.index, buffers, point, []);
        const to = offset(view, point) + stride * clamp(index, size);
        const sum = read(into, to) +
          evaluate(kernel.source, buffers, point, []);
        write(into, to, wrap(sum, kernel.source.dtype));
      }
    }
  }
}

/** Runs a fused kernel as the graph that defines it. */
function runDefinition(
  { definition, operands, results }: FusedKernel,
  buffers: readonly Words[],
): void {
  const reference = createReferenceBackend("f64");
  const given = operands.map(({ buffer, view, shape, dtype }) => {
    const words = [...points(shape)].map((point) =>
      read(buffers[buffer]!, offset(view, point))
    );
    return reference.upload(Float64Array.from(words), dtype, shape);
  });
  const keep = given.map(() => false);
  const plan = () => {
    throw new Error("the reference plans nothing");
  };
  const made = reference.compile(definition, keep, plan).run(given);
  results.forEach((result, i) => {
    if (!result) return;
    const { data } = made[i] as Storage & { readonly data: Data };
    let next = 0;
    for (const point of points(result.shape)) {
      const to = offset(result.view, point);
      write(buffers[result.buffer]!, to, data[next++]!);
    }
  });
}

/** Every point of a shape, the last axis fastest. */
function* points(shape: Shape): Generator<number[]> {
  const point = shape.map(() => 0);
  for (let left = sizeOf(shape); left > 0; left--) {
    yield [...point];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (++point[axis]! < shape[axis]!) break;
      point[axis] = 0;
    }
  }
}

function offset({ offset, strides }: View, point: Shape): number {
  if (strides.length !== point.length) {
    throw new Error("a view of another rank");
  }
  return strides.reduce((sum, s, axis) => sum + s * point[axis]!, offset);
}

function read(words: Words, at: number): number {
  if (!(at in words)) throw new Error(`a read at ${at} of ${words.length}`);
  return words[at]!;
}

function write(words: Words, at: number, value: number): void {
  if (!(at in words)) throw new Error(`a write at ${at} of ${words.length}`);
  words[at] = value;
}

function clamp(index: number, size: number): number {
  return Math.max(0, Math.min(index, size - 1));
}

/** The value of an expression at a point; what is shared is computed once. */
function evaluate(
  root: Expr,
  buffers: readonly Words[],
  point: Shape,
  accs: readonly number[],
): number {
  const known = new Map<Expr, number>();
  const visit = (e: Expr): number => {
    let value = known.get(e);
    if (value === undefined) known.set(e, value = compute(e));
    return value;
  };
  const compute = (e: Expr): number => {
    switch (e.kind) {
      case "load":
        return read(buffers[e.buffer]!, offset(e.view, point));
      case "gather": {
        const index = clamp(visit(e.index), e.size);
        return read(
          buffers[e.buffer]!,
          offset(e.view, point) + e.stride * index,
        );
      }
      case "repeat": {
        const at = Math.floor(offset(e.view, point) / e.times);
        return read(buffers[e.buffer]!, at);
      }
      case "unpack": {
        const at = offset(e.view, point);
        return unpacked(e.levels, at, (word) => read(buffers[e.buffer]!, word));
      }
      case "const":
        return isHalf(e.dtype) ? rounded(e.value, e.dtype) : e.value;
      case "index":
        return offset(e.view, point);
      case "acc":
        return accs[e.index] ?? NaN;
      case "cast":
        return convert(visit(e.arg), e.dtype, e.arg.dtype);
      case "call": {
        const [a, b, c, d] = e.args.map(visit) as [
          number,
          number,
          number,
          number,
        ];
        return wrap(scalars[e.op](a, b, c, d, e.dtype), e.dtype);
      }
    }
  };
  return visit(root);
}
