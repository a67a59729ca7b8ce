/**
 * Merging: two kernels over one index space become one.
 *
 * One keeps its loops, and the views of the other are carried over to them. What the second reads of the first it then
 * computes by the first's expressions, if it reads at the very points where they are computed.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Shape, sizeOf } from "../shape.ts";
import { leafMapper, visitExpr } from "./expression.ts";
import type { Expr, Output, View } from "./kernel.ts";
import { reshapeView, sameOver } from "./view.ts";
import { type Level, loopsOf, type Nest } from "./nest.ts";

/** Most outputs of a product: its epilogue runs while the sums are still in the cache. */
const MOST_OF_PRODUCT = 4;

/** Fewer rows than this, each longer than that, keep too few processors busy for several walks. */
const FEW_ROWS = 16, LONG_ROW = 2 ** 16;

/** Both kernels as one, or null where they do not go together. `first` comes before `second`, which may read it. */
export function merge(first: Nest, second: Nest): Nest | null {
  if (second.product) return null;
  const isMap = (nest: Nest) => nest.reductions.length === 0 && !nest.product;
  const [base, other] = isMap(first) && !isMap(second)
    ? [second, first]
    : [first, second];
  if (!isMap(other)) {
    return sameLoops(first, second) ? join(first, second) : null;
  }
  for (const { level, carry } of carriers(base, other, first, second)) {
    const moved = carried(other, base, level, carry);
    const joined = moved &&
      (other === second ? join(first, moved) : join(moved, second));
    if (joined) return joined;
  }
  return null;
}

function sameLoops(a: Nest, b: Nest): boolean {
  const equal = (x: Shape, y: Shape) =>
    x.length === y.length && x.every((d, i) => d === y[i]);
  return !a.product && equal(a.shape, b.shape) && equal(a.over, b.over) &&
    equal(a.axes, b.axes);
}

/** The work of two nests with the same loops in one, or null where the second reads what the first has not yet. */
function join(first: Nest, second: Nest): Nest | null {
  const resolve = resolver(first);
  const shift = first.reductions.length;
  const renumber = leafMapper((e) =>
    e.kind === "acc" ? { ...e, index: e.index + shift } : e
  );
  const expr = (e: Expr, level: Level): Expr | null =>
    resolve(renumber(e)!, level);
  const outputs = (list: readonly Output[], level: Level): (Output | null)[] =>
    list.map((o) => {
      const value = expr(o.expr, level);
      return value && { ...o, expr: value };
    });
  const reductions = second.reductions.map((r) => {
    const body = expr(r.body, "element");
    return body && { ...r, body };
  });
  const element = outputs(second.element, "element");
  const row = outputs(second.row, "row");
  if (![...reductions, ...element, ...row].every((x) => x !== null)) {
    return null;
  }
  const joined: Nest = {
    ...first,
    reductions: [...first.reductions, ...reductions as Nest["reductions"]],
    element: [...first.element, ...element as Output[]],
    row: [...first.row, ...row as Output[]],
  };
  return pays(joined) ? joined : null;
}

/** Whether a nest is as good as its parts. */
function pays(
  { product, shape, over, axes, reductions, element }: Nest,
): boolean {
  if (product) return element.length <= MOST_OF_PRODUCT;
  if (reductions.length === 0) return true;
  const walks = element.length > 0 ||
    reductions.some(({ body }) => readsAcc(body));
  if (!walks) return true;
  // Across columns each walk would go through memory in leaps, and on a GPU by few threads.
  const last = Math.max(-1, ...axes.filter((_, i) => loopSize(i) > 1));
  const isAlongRows = axes.indexOf(last) >= shape.length;
  return isAlongRows &&
    (sizeOf(shape) >= FEW_ROWS || sizeOf(over) <= LONG_ROW);

  function loopSize(i: number): number {
    return i < shape.length ? shape[i]! : over[i - shape.length]!;
  }
}

function readsAcc(expr: Expr): boolean {
  let found = false;
  visitExpr(expr, (e) => found ||= e.kind === "acc");
  return found;
}

/** A way to carry the views of a map over to the loops of another nest, or to those of its rows. */
interface Carrier {
  readonly level: Level;
  readonly carry: (view: View) => View | null;
}

/** The ways to carry `map` over to the loops of `base`; they are `first` and `second` in one order or the other. */
function* carriers(
  base: Nest,
  map: Nest,
  first: Nest,
  second: Nest,
): Generator<Carrier> {
  const loops = loopsOf(base);
  const size = sizeOf(map.shape);
  if (sizeOf(loops) === size) {
    const space = loops.map((_, i) => loops[base.axes.indexOf(i)]!);
    yield {
      level: "element",
      carry: (view) => {
        const whole = reshapeView(view, map.shape, space);
        return whole &&
          { ...whole, strides: base.axes.map((axis) => whole.strides[axis]!) };
      },
    };
  }
  if (base.reductions.length > 0 && sizeOf(base.shape) === size) {
    yield {
      level: "row",
      carry: (view) => reshapeView(view, map.shape, base.shape),
    };
  }
  // The map may go through a buffer element by element, and the other kernel through the same in another order.
  for (const { level, store, load } of meetings(first, second)) {
    const via = map === second ? store : load;
    const extents = level === "row" ? base.shape : loops;
    yield { level, carry: (view) => reorder(view, map.shape, via, extents) };
  }
}

/** Where the second reads what the first stores, with the level at which that one of them works that is no map. */
function* meetings(
  first: Nest,
  second: Nest,
): Generator<{ level: Level; store: View; load: View }> {
  const isMapFirst = first.reductions.length === 0 && !first.product;
  const stores = new Map(
    (["element", "row"] as const).flatMap((level) =>
      first[level].map(({ buffer, view }) => [buffer, { level, view }])
    ),
  );
  for (const { expr, level } of exprsAt(second)) {
    const loads: { level: Level; store: View; load: View }[] = [];
    visitExpr(expr, (e) => {
      const store = e.kind === "load" && stores.get(e.buffer);
      if (!store) return;
      loads.push({
        level: isMapFirst ? level : store.level,
        store: store.view,
        load: e.view,
      });
    });
    yield* loads;
  }
}

function exprsAt(nest: Nest): { expr: Expr; level: Level }[] {
  return [
    ...nest.reductions.map(({ body }) => ({
      expr: body,
      level: "element" as const,
    })),
    ...(["element", "row"] as const).flatMap((level) =>
      nest[level].map(({ expr }) => ({ expr, level }))
    ),
  ];
}

/** A view over `from` as one over loops that take its points in the order in which the view `via` meets them. */
function reorder(
  view: View,
  from: Shape,
  via: View,
  loops: Shape,
): View | null {
  if (sizeOf(from) !== sizeOf(loops)) return null;
  const order = loops.flatMap((d, i) => d === 1 ? [] : [i])
    .sort((i, j) => via.strides[j]! - via.strides[i]!);
  const moved = reshapeView(view, from, order.map((i) => loops[i]!));
  return moved && {
    offset: moved.offset,
    strides: loops.map((_, i) => moved.strides[order.indexOf(i)] ?? 0),
  };
}

/** A map as work at a level of the nest `base`. */
function carried(
  { element }: Nest,
  base: Nest,
  level: Level,
  carry: (view: View) => View | null,
): Nest | null {
  const move = leafMapper((e) => {
    if (!("view" in e)) return e;
    const view = carry(e.view);
    return view && { ...e, view };
  });
  const outputs: Output[] = [];
  for (const { buffer, view, expr } of element) {
    const there = carry(view), value = move(expr);
    if (!there || !value) return null;
    outputs.push({ buffer, view: there, expr: value });
  }
  const none = { reductions: [], element: [], row: [] };
  return { ...base, ...none, [level]: outputs };
}

/**
 * A function that replaces what expressions over the loops of a nest read of its results by the expressions behind
 * them; null where they read another element than the one that is computed there.
 */
function resolver(nest: Nest): (expr: Expr, level: Level) => Expr | null {
  const loops = loopsOf(nest);
  const stores = new Map(
    (["element", "row"] as const).flatMap((level) =>
      nest[level].map((output) => [output.buffer, { level, output }])
    ),
  );
  const widen = ({ offset, strides }: View): View => ({
    offset,
    strides: loops.map((_, i) => strides[i] ?? 0),
  });
  const lift = leafMapper((e) =>
    "view" in e ? { ...e, view: widen(e.view) } : e
  );
  const at = (level: Level) =>
    leafMapper((e) => {
      if (!("buffer" in e)) return e;
      const store = stores.get(e.buffer);
      if (!store) return e;
      if (e.kind !== "load") return null;
      const { view, expr } = store.output;
      if (store.level === level) {
        const space = level === "row" ? nest.shape : loops;
        return sameOver(view, e.view, space) ? expr : null;
      }
      if (level === "row") return null;
      return sameOver(widen(view), e.view, loops) ? lift(expr) : null;
    });
  const inside = { element: at("element"), row: at("row") };
  return (expr, level) => inside[level](expr);
}
