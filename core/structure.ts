/**
 * Structure of what goes into a compiled function and comes out of it: trees that may also hold numbers and strings.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { TreeError } from "./errors.ts";
import { describe } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** What stands between the parts of a structure: no argument can hold it. */
const [TENSOR, ARRAY, RECORD, END] = [{}, {}, {}, {}];

/** Tensors of the arguments, and their structure: what two calls must have in common to run the same program. */
export function flatten(
  args: readonly unknown[],
  name: string,
): { tensors: Tensor[]; structure: unknown[] } {
  const tensors: Tensor[] = [];
  const structure: unknown[] = [];
  const path: (string | number)[] = [];
  const visit = (value: unknown, key: string | number): void => {
    path.push(key);
    if (value instanceof Tensor) {
      tensors.push(value);
      structure.push(TENSOR, value.dtype, ...value.shape, END);
    } else if (Array.isArray(value)) {
      structure.push(ARRAY);
      for (let i = 0; i < value.length; i++) visit(value[i], i);
      structure.push(END);
    } else if (isRecord(value)) {
      structure.push(RECORD);
      for (const key of Object.keys(value)) {
        structure.push(key);
        visit(value[key], key);
      }
      structure.push(END);
    } else {
      const isObject = typeof value === "object" && value !== null;
      if (isObject || typeof value === "function") {
        unsupported(value, path, name);
      }
      structure.push(value);
    }
    path.pop();
  };
  args.forEach(visit);
  return { tensors, structure };
}

/** Whether two structures are the same; -0 is not 0, and NaN is NaN. */
export function sameStructure(
  a: readonly unknown[],
  b: readonly unknown[],
): boolean {
  return a.length === b.length && a.every((part, i) => Object.is(part, b[i]));
}

/** Whether a value is a plain record: no array, and of no class. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function unsupported(
  value: unknown,
  path: readonly (string | number)[],
  name: string,
): never {
  throw new TreeError(
    `Cannot call ${name} with ${describe(value)} as argument ${
      path.join(".")
    }: arguments are trees of tensors, numbers and strings; close over it`,
  );
}

/** Maps the tensors of arguments that may also hold numbers and strings. */
export function mapTensors(
  value: unknown,
  path: string,
  f: (tensor: Tensor, path: string) => Tensor,
): unknown {
  if (value instanceof Tensor) return f(value, path);
  if (typeof value !== "object" || value === null) return value;
  const map = (child: unknown, key: string | number): unknown =>
    mapTensors(child, `${path}.${key}`, f);
  if (Array.isArray(value)) return value.map(map);
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key, map(child, key)]),
  );
}

/** Makes a tree again from other tensors in the same order; faster than `tree.fromLeaves`, as it is known to be one. */
export function template(
  value: unknown,
): (tensors: Iterator<Tensor>) => unknown {
  if (value instanceof Tensor) return (tensors) => tensors.next().value;
  if (typeof value !== "object" || value === null) return () => value;
  if (Array.isArray(value)) {
    const parts = value.map(template);
    return (tensors) => parts.map((part) => part(tensors));
  }
  const parts = Object.entries(value)
    .map(([key, child]) => [key, template(child)] as const);
  return (tensors) => {
    const out: Record<string, unknown> = {};
    for (const [key, part] of parts) out[key] = part(tensors);
    return out;
  };
}
