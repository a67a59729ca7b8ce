/**
 * Checks of what optimizers are given.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  compileSelector,
  DTypeError,
  format,
  scope,
  type Selector,
  ShapeError,
  type Tree,
  tree,
  TreeError,
} from "../../core/mod.ts";
import type { Optimizer } from "./optimizer.ts";

/** Checks a rate; `name` is what the user calls it. */
export function checkRate(name: string, rate: number): void {
  if (rate >= 0 && rate < Infinity) return;
  throw new RangeError(
    `Cannot learn at ${name} ${rate}: it must be finite and not negative`,
  );
}

/** Checks a share of an average that is kept. */
export function checkShare(name: string, share: number): void {
  if (share >= 0 && share < 1) return;
  throw new RangeError(
    `Cannot average with ${name} ${share}: it must be at least 0 and below 1`,
  );
}

/** An optimizer that checks parameters, gradients and its mask, and frees what is intermediate. */
export function checked<S extends Tree>(
  { init, update }: Optimizer<S>,
  mask?: Selector,
): Optimizer<S> {
  return {
    init(params) {
      const leaves = tree.leaves(params);
      for (const { path, leaf } of leaves) {
        if (leaf.dtype === "f32") continue;
        throw new DTypeError(
          `Cannot optimize ${format(leaf)}${
            at(path)
          }: only f32 learns; split the rest off with tree.partition`,
        );
      }
      if (mask) compileSelector(mask, leaves.map(({ path }) => path));
      return scope(() => init(params));
    },
    update(grads, state, params) {
      checkGradients(grads, params);
      return scope(() => update(grads, state, params));
    },
  };
}

/** Checks that gradients stand where parameters do, with their types. */
function checkGradients(grads: Tree, params: Tree): void {
  const given = new Map(
    tree.leaves(grads).map(({ path, leaf }) => [path, leaf]),
  );
  for (const { path, leaf } of tree.leaves(params)) {
    const grad = given.get(path);
    given.delete(path);
    const what = `Cannot update ${format(leaf)}${at(path)}`;
    if (!grad) {
      throw new TreeError(
        `${what}: it has no gradient; make both trees by one tree.partition`,
      );
    }
    if (format(grad) === format(leaf)) continue;
    const ErrorOf = grad.dtype === leaf.dtype ? ShapeError : DTypeError;
    throw new ErrorOf(
      `${what} by ${format(grad)}: a gradient has the type of its parameter`,
    );
  }
  const [extra] = given;
  if (!extra) return;
  throw new TreeError(
    `Cannot update by ${format(extra[1])}${
      at(extra[0])
    }: there is no such parameter; make both trees by one tree.partition`,
  );
}

/** A path in an error; nothing where the tree is one tensor. */
export function at(path: string): string {
  return path && ` at ${path}`;
}
