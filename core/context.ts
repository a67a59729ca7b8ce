/**
 * The one piece of global state: the current backend, with the trace and the scopes that are open.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Backend, Executable } from "./backend.ts";
import { createWasmBackend } from "./cpu/wasm.ts";
import type { Node } from "./node.ts";

/** A backend in use, with what was compiled for it. */
export interface Runtime {
  /** The backend. */
  readonly backend: Backend;
  /** Programs of operations outside `jit`, by the structure of their graph, least recently used first. */
  readonly programs: Map<string, Executable>;
  /** Number of programs that `jit` holds. */
  jitted: number;
  /** Number of tensors that are neither disposed of nor donated. */
  tensors: number;
  /** Told of each new tensor, while leaks are looked for. */
  watch: ((tensor: Disposable) => void) | null;
}

/** A function being traced: the tensors from outside that it has used, each with the node that stands for it. */
export interface Trace {
  /** Nodes of captured tensors. */
  readonly captured: Map<object, Node>;
  /** The trace that it is a part of, whose values it may use, but not the other way round. */
  readonly outer: Trace | null;
}

/** What is open now. */
interface Context {
  runtime: Runtime | null;
  trace: Trace | null;
  readonly scopes: Set<Disposable>[];
}

const context: Context = { runtime: null, trace: null, scopes: [] };

/** The current runtime; WebAssembly where `init` was not called, since it needs no waiting. */
export function currentRuntime(): Runtime {
  return context.runtime ??= createRuntime(createWasmBackend());
}

/** A runtime of a backend. */
export function createRuntime(backend: Backend): Runtime {
  return { backend, programs: new Map(), jitted: 0, tensors: 0, watch: null };
}

/** Makes a runtime the current one. */
export function setRuntime(runtime: Runtime): void {
  context.runtime = runtime;
}

/** Calls `f` while another runtime is the current one. */
export function withRuntime<R>(runtime: Runtime, f: () => R): R {
  const outer = context.runtime;
  context.runtime = runtime;
  try {
    return f();
  } finally {
    context.runtime = outer;
  }
}

/** Frees a runtime's programs and its backend. */
export function closeRuntime(runtime: Runtime): void {
  if (context.runtime === runtime) context.runtime = null;
  for (const program of runtime.programs.values()) program.dispose();
  runtime.programs.clear();
  runtime.backend.dispose();
}

/** The trace that records operations now, or null. */
export function currentTrace(): Trace | null {
  return context.trace;
}

/** Calls `f` while operations are recorded in a new trace, which may be a part of another. */
export function withTrace<R>(
  f: (trace: Trace) => R,
  outer: Trace | null = null,
): R {
  const before = context.trace;
  const trace: Trace = { captured: outer?.captured ?? new Map(), outer };
  context.trace = trace;
  try {
    return f(trace);
  } finally {
    context.trace = before;
  }
}

/** The innermost open scope, or undefined. */
export function currentScope(): Set<Disposable> | undefined {
  return context.scopes.at(-1);
}

/** Opens a scope. */
export function pushScope(): Set<Disposable> {
  const scope = new Set<Disposable>();
  context.scopes.push(scope);
  return scope;
}

/** Closes the innermost scope. */
export function popScope(): void {
  context.scopes.pop();
}
