/**
 * Tracing: operations on tensors are recorded as nodes of a graph, which runs as one program.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Executable, Graph } from "./backend.ts";
import {
  currentRuntime,
  currentTrace,
  type Runtime,
  type Trace,
  withTrace,
} from "./context.ts";
import { DeviceError, invariant, withCaller } from "./errors.ts";
import type { Node, OpName, Params } from "./node.ts";
import { bind, input } from "./ops.ts";
import { buildPlan } from "./plan/plan.ts";
import { graphKey } from "./plan/key.ts";
import { describe } from "./shape.ts";
import { release, stateOf, storedState, Tensor } from "./tensor.ts";
import * as tree from "./tree.ts";

/** Most programs kept for operations outside `jit`. */
const PROGRAMS_KEPT = 512;

/** A traced tensor that stands for a node. */
export function traced(node: Node): Tensor {
  const trace = currentTrace();
  invariant(trace, "a node is made outside a trace");
  return new Tensor(node.shape, node.dtype, { kind: "traced", trace, node });
}

/** The node that stands for a tensor in the current trace; a concrete tensor becomes an input of the program. */
export function nodeOf(tensor: Tensor): Node {
  const trace = currentTrace();
  invariant(trace, "a node is asked for outside a trace");
  if (!(tensor instanceof Tensor)) {
    throw withCaller(
      new TypeError(
        `Cannot use ${describe(tensor)} here: a tensor is expected`,
      ),
    );
  }
  const state = stateOf(tensor);
  if (state.kind === "traced") {
    let open: Trace | null = trace;
    while (open && open !== state.trace) open = open.outer;
    if (open) return state.node;
    throw withCaller(
      new TypeError(
        `Cannot use ${tensor} here: it belongs to a function whose tracing has ended; return it from that function`,
      ),
    );
  }
  storedState(tensor, "use");
  let node = trace.captured.get(tensor);
  if (!node) trace.captured.set(tensor, node = input(tensor));
  return node;
}

/** Throws for the promise of an async function, whose own failure is then of no interest. */
export function checkSynchronous(out: unknown, name: string): void {
  if (!(out instanceof Promise)) return;
  out.catch(() => {});
  throw new TypeError(
    `Cannot trace ${name}: it is async, and what it does after an await is out of sight; await outside of it`,
  );
}

/** The tensors in what a traced function returns. */
export function results(out: unknown, name = "a function"): Tensor[] {
  checkSynchronous(out, name);
  return tree.leavesIn(out, `in what ${name} returns`)
    .map(({ leaf }) => leaf);
}

/** Applies a primitive to tensors. */
export function apply<K extends OpName>(
  op: K,
  inputs: readonly Tensor[],
  params: Params[K],
): Tensor {
  return evaluate(() => traced(bind(op, inputs.map(nodeOf), params)));
}

/**
 * Calls `f`, recording what it does. Inside a trace its operations join that trace; outside they run at once as one
 * program, and the tensors in what it returns are concrete.
 */
export function evaluate<R>(f: () => R): R {
  if (currentTrace()) return f();
  const { graph, captured, rebuild } = withTrace((trace) => {
    const out = f();
    const graph = {
      outputs: results(out).map(nodeOf),
      inputs: [...trace.captured.values()],
    };
    return {
      graph,
      captured: [...trace.captured.keys()] as Tensor[],
      rebuild: (tensors: Tensor[]) =>
        tree.fromLeaves(out as tree.Tree, tensors) as R,
    };
  });
  const runtime = currentRuntime();
  return rebuild(run(runtime, programOf(runtime, graph), graph, captured));
}

/** Runs a program on concrete tensors; `donated` ones are consumed, for the reason that `why` gives. */
export function run(
  runtime: Runtime,
  program: Executable,
  graph: Graph,
  inputs: readonly Tensor[],
  donated?: readonly (string | null)[],
): Tensor[] {
  const storages = inputs.map((tensor) => {
    const state = storedState(tensor, "use");
    if (state.runtime !== runtime) {
      throw new DeviceError(
        `Cannot use ${tensor}: it lives on a ${state.runtime.backend.name} backend that is not the current one; make it after init, or pass it to checkGrads as an argument`,
      );
    }
    return state.storage;
  });
  const made = program.run(storages);
  // Only now, for a program that finds no memory takes nothing.
  donated?.forEach((why, i) => why && release(inputs[i]!, why));
  return graph.outputs.map(({ shape, dtype }, i) =>
    new Tensor(shape, dtype, { kind: "stored", runtime, storage: made[i]! })
  );
}

/** Compiles a graph for a backend. */
export function compile(
  { backend }: Runtime,
  graph: Graph,
  donated: readonly boolean[],
): Executable {
  const plan = () => buildPlan(graph, donated, backend.limits);
  return backend.compile(graph, donated, plan);
}

/** The program of a graph that may have run before. */
function programOf(runtime: Runtime, graph: Graph): Executable {
  const { programs } = runtime;
  const key = graphKey(graph);
  let program = programs.get(key);
  if (program) {
    programs.delete(key);
  } else {
    program = compile(runtime, graph, graph.inputs.map(() => false));
    if (programs.size >= PROGRAMS_KEPT) {
      const [oldest, dropped] = programs.entries().next().value!;
      programs.delete(oldest);
      dropped.dispose();
    }
  }
  programs.set(key, program);
  return program;
}

export type { Trace };
