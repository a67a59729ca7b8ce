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
  withTrace,
} from "./context.ts";
import { TreeError } from "./errors.ts";
import type { Node } from "./node.ts";
import { input } from "./ops.ts";
import { buildPlan } from "./plan/plan.ts";
import { describePlan, type Program } from "./plan/describe.ts";
import { flatten, mapTensors, sameStructure, template } from "./structure.ts";
import type { Tensor } from "./tensor.ts";
import { compile, nodeOf, results, run, traced } from "./trace.ts";

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
  readonly structure: readonly unknown[];
  readonly graph: Graph;
  readonly executable: Executable;
  readonly captured: readonly Tensor[];
  /** Tensors that the function made while it was traced. */
  readonly made: ReadonlySet<Disposable>;
  readonly donated: readonly (string | null)[];
  /** What the function returned, with other tensors in the same order. */
  rebuild(tensors: Iterator<Tensor>): unknown;
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
  const donate = new Set(options.donate);
  const versions: Version[] = [];

  function versionFor(args: A): { version: Version; tensors: Tensor[] } {
    const runtime = currentRuntime();
    for (const index of donate) {
      if (index in args) continue;
      throw new RangeError(
        `Cannot donate argument ${index} of ${name}: it was called with ${args.length}`,
      );
    }
    const { tensors, structure } = flatten(args, name);
    const at = versions.findIndex((v) => sameStructure(v.structure, structure));
    const known = versions[at];
    if (known?.runtime === runtime) return { version: known, tensors };
    const version = {
      ...traceVersion(f, args, runtime, donate, name),
      structure,
    };
    runtime.jitted++;
    if (known) {
      drop(known);
      versions[at] = version;
    } else if (versions.push(version) === MANY_PROGRAMS + 1) {
      console.warn(
        `cotan: ${name} was compiled for ${versions.length} kinds of arguments; pass what changes as a tensor`,
      );
    }
    return { version, tensors };
  }

  const jitted = (...args: A): R => {
    if (currentTrace()) return f(...args);
    const { version, tensors } = versionFor(args);
    const { runtime, executable, graph, captured, donated } = version;
    checkDonation(tensors, captured, donated, name);
    const inputs = [...tensors, ...captured];
    const outputs = run(runtime, executable, graph, inputs, donated);
    return version.rebuild(outputs.values()) as R;
  };
  const program = (...args: A): Program => {
    const { version: { graph, donated, runtime } } = versionFor(args);
    const plan = buildPlan(
      graph,
      graph.inputs.map((_, i) => donated[i] != null),
      runtime.backend.limits,
    );
    return describePlan(plan, graph.inputs);
  };
  const dispose = (): void => {
    versions.forEach(drop);
    versions.length = 0;
  };
  return Object.assign(jitted, { program, [Symbol.dispose]: dispose });
}

/**
 * Traces a function for arguments like these and compiles what it does, in a scope of its own: what it makes meanwhile is
 * needed at every call.
 */
function traceVersion<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  args: A,
  runtime: Runtime,
  donate: ReadonlySet<number>,
  name: string,
): Omit<Version, "structure"> {
  const made = pushScope();
  try {
    const { graph, captured, donated, out } = withTrace((trace) => {
      const nodes: Node[] = [];
      const donated: (string | null)[] = [];
      const primals = args.map((arg, i) =>
        mapTensors(arg, String(i), (tensor, path) => {
          const node = input(tensor);
          nodes.push(node);
          donated.push(
            donate.has(i) ? `was donated to ${name} as argument ${path}` : null,
          );
          return traced(node);
        })
      ) as unknown as A;
      const out = f(...primals);
      const outputs = results(out, name).map(nodeOf);
      return {
        graph: { inputs: [...nodes, ...trace.captured.values()], outputs },
        captured: [...trace.captured.keys()] as Tensor[],
        donated,
        out,
      };
    });
    const consumed = graph.inputs.map((_, i) => donated[i] != null);
    return {
      runtime,
      graph,
      executable: compile(runtime, graph, consumed),
      captured,
      made,
      donated,
      rebuild: template(out),
    };
  } catch (error) {
    for (const tensor of made) tensor[Symbol.dispose]();
    throw error;
  } finally {
    popScope();
  }
}

/** Frees what a version holds. */
function drop({ executable, runtime, made }: Version): void {
  executable.dispose();
  for (const tensor of made) tensor[Symbol.dispose]();
  runtime.jitted--;
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
