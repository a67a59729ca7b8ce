/**
 * Compilation: a pure function traced once for each structure of its arguments, and run as one planned program.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Executable, Graph } from "./backend.ts";
import {
  currentRuntime,
  currentTrace,
  popScope,
  pushScope,
  type Runtime,
  type Trace,
  withTrace,
} from "./context.ts";
import { TreeError } from "./errors.ts";
import type { Node } from "./node.ts";
import { input } from "./ops.ts";
import { buildPlan } from "./plan/plan.ts";
import { describePlan, type Program } from "./plan/describe.ts";
import { format, sizeOf } from "./shape.ts";
import { Tensor } from "./tensor.ts";
import { compile, nodeOf, run, traced } from "./trace.ts";
import * as tree from "./tree.ts";

/** Programs from one function before the warning that something changes at every call. */
const MANY_PROGRAMS = 8;

/** How a function is compiled. */
export interface JitOptions {
  /** Positions of arguments whose tensors the program may overwrite; they are gone after the call. */
  readonly donate?: readonly number[];
  /** Name in errors; the function's own when absent. */
  readonly name?: string;
}

/** A compiled function. */
export type Jitted<A extends readonly unknown[], R> =
  & ((...args: A) => R)
  & Disposable
  & {
    /** The plan that a call with these arguments runs. */
    program(...args: A): Program;
  };

/** One traced version of a function. */
interface Version {
  readonly runtime: Runtime;
  readonly graph: Graph;
  readonly executable: Executable;
  readonly captured: readonly Tensor[];
  /** Captured tensors that the function itself made while it was traced. */
  readonly constants: readonly Tensor[];
  readonly donated: readonly (string | null)[];
  rebuild(tensors: Tensor[]): unknown;
}

/**
 * Compiles a pure function of trees. It is traced once for each structure, shapes and dtypes of its arguments; numbers,
 * strings and booleans among them are part of the structure. Inside another transformation it joins that one.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { jit, tensor } from "cotan";
 *
 * using scaled = jit((x, y) => x.mul(y).add(1));
 * assertEquals(await scaled(tensor([1, 2]), tensor(3)).toArray(), [4, 7]);
 * ```
 */
export function jit<A extends readonly unknown[] = Tensor[], R = Tensor>(
  f: (...args: A) => R,
  options: JitOptions = {},
): Jitted<A, R> {
  const name = options.name ?? (f.name || "the jitted function");
  const versions = new Map<string, Version>();

  function versionFor(args: A): { version: Version; tensors: Tensor[] } {
    const runtime = currentRuntime();
    const { tensors, key, donated } = flatten(args, options.donate ?? [], name);
    let version = versions.get(key);
    if (version && version.runtime !== runtime) version = undefined;
    if (!version) {
      version = traceVersion(f, args, runtime, donated);
      versions.get(key)?.executable.dispose();
      versions.set(key, version);
      runtime.jitted++;
      if (versions.size === MANY_PROGRAMS + 1) {
        console.warn(
          `cotan: ${name} was compiled for ${versions.size} kinds of arguments; pass what changes as a tensor`,
        );
      }
    }
    return { version, tensors };
  }

  const jitted = (...args: A): R => {
    if (currentTrace()) return f(...args);
    const { version, tensors } = versionFor(args);
    const { runtime, executable, graph, captured, donated } = version;
    checkDonation(tensors, captured, donated, name);
    const inputs = [...tensors, ...captured];
    return version.rebuild(
      run(runtime, executable, graph, inputs, donated),
    ) as R;
  };
  const program = (...args: A): Program => {
    const { version: { graph, donated, runtime } } = versionFor(args);
    const plan = buildPlan(
      graph,
      graph.inputs.map((_, i) => donated[i] != null),
      runtime.backend.limits,
    );
    return describePlan(plan, graph.inputs.map(({ shape }) => sizeOf(shape)));
  };
  const dispose = (): void => {
    for (const { executable, runtime, constants } of versions.values()) {
      executable.dispose();
      for (const tensor of constants) tensor.dispose();
      runtime.jitted--;
    }
    versions.clear();
  };
  return Object.assign(jitted, { program, [Symbol.dispose]: dispose });
}

/** Tensors of the arguments, the key of their structure, and for each tensor why it will be gone, or null. */
function flatten(
  args: readonly unknown[],
  donate: readonly number[],
  name: string,
): { tensors: Tensor[]; key: string; donated: (string | null)[] } {
  const tensors: Tensor[] = [];
  const donated: (string | null)[] = [];
  const key: string[] = [];
  const visit = (value: unknown, path: string, donates: boolean): void => {
    if (value instanceof Tensor) {
      tensors.push(value);
      donated.push(
        donates ? `was donated to ${name} as argument ${path}` : null,
      );
      key.push(format(value));
    } else if (typeof value === "object" && value !== null) {
      if (!isPlain(value)) {
        unsupported(`a ${value.constructor.name}`, path, name);
      }
      key.push(Array.isArray(value) ? "[" : "{");
      for (const [k, child] of Object.entries(value)) {
        key.push(JSON.stringify(k));
        visit(child, `${path}.${k}`, donates);
      }
      key.push("}");
    } else {
      if (typeof value === "function") unsupported("a function", path, name);
      // As text of one kind each: "1" is not 1, and a string cannot pass for two.
      key.push(
        typeof value === "string"
          ? JSON.stringify(value)
          : Object.is(value, -0)
          ? "-0"
          : String(value),
      );
    }
  };
  args.forEach((arg, i) => visit(arg, String(i), donate.includes(i)));
  return { tensors, key: key.join(" "), donated };
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype ||
    prototype === null;
}

function unsupported(what: string, path: string, name: string): never {
  throw new TreeError(
    `Cannot call ${name} with ${what} as argument ${path}: arguments are trees of tensors, numbers and strings; close over it`,
  );
}

/** Maps the tensors of arguments that may also hold numbers and strings. */
function mapTensors(value: unknown, f: (tensor: Tensor) => Tensor): unknown {
  if (value instanceof Tensor) return f(value);
  if (Array.isArray(value)) return value.map((v) => mapTensors(v, f));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([k, v]) => [k, mapTensors(v, f)]),
  );
}

/** Traces a function for arguments like these and compiles what it does. */
function traceVersion<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  args: A,
  runtime: Runtime,
  donated: readonly (string | null)[],
): Version {
  const { made, result } = inOwnScope((trace) => {
    const nodes: Node[] = [];
    const primals = mapTensors(args, (tensor) => {
      const node = input(tensor);
      nodes.push(node);
      return traced(node);
    }) as unknown as A;
    const out = f(...primals);
    const outputs = tree.leaves(out as tree.Tree).map(({ leaf }) =>
      nodeOf(leaf)
    );
    return {
      graph: { inputs: [...nodes, ...trace.captured.values()], outputs },
      captured: [...trace.captured.keys()] as Tensor[],
      out,
    };
  });
  const { graph, captured, out } = result;
  const consumed = graph.inputs.map((_, i) => donated[i] != null);
  return {
    runtime,
    graph,
    executable: compile(runtime, graph, consumed),
    captured,
    constants: captured.filter((tensor) => made.has(tensor)),
    donated,
    rebuild: (tensors) => tree.fromLeaves(out as tree.Tree, tensors),
  };
}

/** Traces in a scope of its own, since what a function makes then is needed at every call; gives that too. */
function inOwnScope<R>(
  f: (trace: Trace) => R,
): { result: R; made: ReadonlySet<Disposable> } {
  const made = pushScope();
  try {
    return { result: withTrace(f), made };
  } catch (error) {
    for (const tensor of made) tensor[Symbol.dispose]();
    throw error;
  } finally {
    popScope();
  }
}

/** A donated tensor must be given once, and to nobody else. */
function checkDonation(
  tensors: readonly Tensor[],
  captured: readonly Tensor[],
  donated: readonly (string | null)[],
  name: string,
): void {
  const taken = new Set<Tensor>();
  tensors.forEach((tensor, i) => {
    if (!donated[i]) return;
    if (taken.has(tensor)) {
      throw new TreeError(
        `Cannot donate ${tensor} to ${name} twice: it stands in two places; pass a copy in one`,
      );
    }
    taken.add(tensor);
  });
  if (taken.size === 0) return;
  const shared = [...tensors.filter((_, i) => !donated[i]), ...captured]
    .find((tensor) => taken.has(tensor));
  if (shared) {
    throw new TreeError(
      `Cannot donate ${shared} to ${name}: the call also reads it as another argument or closes over it`,
    );
  }
}
