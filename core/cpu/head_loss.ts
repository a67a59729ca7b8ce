/**
 * The logarithm of the sum of exponentials of a head's scores, and the row of its table that softmax expects.
 *
 * Both in one pass over the table: sums are online, and so are the weighted sums of rows as in FlashAttention-2 (arXiv
 * 2307.08691, algorithm 1). The work is cut into tasks, groups of examples by pieces of the table, in the same way for any
 * number of threads, and their results are combined in order.
 *
 * Letters: N examples, V rows of the table, D their size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type {
  Expr,
  FusedKernel,
  ScalarOp,
  Strided,
  View,
} from "../plan/kernel.ts";
import { type Pointer, SGEMM } from "./assembler.ts";
import { blockOf, examplesOf, scoresOf, toPanels } from "./head_scores.ts";
import { emitTotal } from "./head_total.ts";
import { i32 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import { emitReduce } from "./reduce.ts";
import {
  type Columns,
  exponentiate,
  rescale,
  startColumns,
} from "./score_columns.ts";
import { sharedNumbers } from "./shared.ts";
import { splitAxis } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { STRIP } from "./strips.ts";
import { MADD } from "./work.ts";

/** Tasks that the work is cut into where the table is long enough: some for each thread. */
const TASKS = 16;

/** Pieces of the table are whole strips. */
const STRIPS = 6 * STRIP;

/** Emits the function but for the gradient of the table; gives how many of the shared functions it needs. */
export function emitHeadLoss(
  stages: StageBuilder,
  { operands, results }: FusedKernel,
): number {
  const [x, table, weight, bias] = operands as [
    Strided,
    Strided,
    Strided,
    Strided?,
  ];
  const [total, logSum, ofX] = results;
  const [N, D] = x.shape as [number, number], V = table.shape[0]!;
  const { common, own } = stages;
  const scores = scoresOf(stages, { x, table, bias });
  const most = Math.min(
    Math.ceil(TASKS / scores.groups),
    Math.ceil(V / scores.rows),
  );
  const size = STRIPS * Math.ceil(V / most / STRIPS);
  const pieces = Math.ceil(V / size), tasks = pieces * scores.groups;
  const factors = stages.takeOwn(4 * scores.group);
  const partial = partialOf(stages, pieces, N, ofX ? D : 0);
  const { tops, sums, rows } = partial;
  const work = MADD * N * V * D * (ofX ? 2 : 1);
  const split = stages.divide(work, () => splitAxis(0, tasks, 1));
  stages.add(work, split, (lanes, part) => {
    const { code } = lanes;
    code.blocks(part ?? { from: 0, to: tasks }, 1, (task) => {
      const [group, number] = code.locals(2);
      code.push(task.from).const(pieces).op(i32.divU).set(group);
      code.push(task.from).const(pieces).op(i32.remU).set(number);
      const examples = examplesOf(
        code,
        blockOf(code, group, scores.group, N),
      );
      const piece = blockOf(code, number, size, V);
      const addressIn = ({ start, strides }: Scratch): Pointer => {
        const local = code.pointer();
        code.get(number).const(4 * strides[0]!).op(i32.mul);
        code.push(examples.from).const(4 * strides[1]!).op(i32.mul);
        code.op(i32.add).from(common).const(start).plus();
        code.set(local);
        return local;
      };
      const columns: Columns = {
        count: examples.columns,
        top: addressIn(tops),
        sum: addressIn(sums),
        factor: code.pointer(),
      };
      code.get(own).const(factors).plus().set(columns.factor);
      const expected = {
        at: addressIn(rows),
        stride: 4 * rows.strides[1]!,
        count: examples.count,
      };
      startColumns(lanes, columns);
      code.blocks(piece, scores.rows, (block) => {
        const table = scores.tableAt(lanes, block);
        const at = scores.emit(lanes, examples, block, table);
        const { stride } = scores;
        exponentiate(lanes, columns, { at, stride, count: block.size });
        if (!ofX) return;
        code.push(block.from).push(piece.from).op(i32.ne);
        code.if(() => rescale(lanes, columns, expected, rows.strides[1]!));
        // Exponentials by their columns, times the rows of the table.
        if (stages.hasBlas) {
          code.const(1).const(0).push(examples.count).const(D);
          code.push(block.size).get(at).const(stride / 4);
          code.get(table).const(scores.rowStride / 4);
          code.get(expected.at).const(rows.strides[1]!);
          code.push(block.from).push(piece.from).op(i32.ne);
          code.callImported(SGEMM);
          return;
        }
        code.get(at).const(stride).const(4 * STRIP);
        code.get(table).const(scores.rowStride).const(4 * PANEL);
        code.get(expected.at).const(expected.stride);
        code.push(examples.count).const(rows.strides[1]!).push(block.size);
        code.push(block.from).push(piece.from).op(i32.eq);
        scores.pushTile(code);
        code.call(sharedNumbers().columns);
      });
    });
  });
  combine(stages, partial, { total, logSum, ofX, weight });
  return scores.shared;
}

/** Scratch memory that threads share, over [pieces, N] or [pieces, N, D]; strides count floats. */
interface Scratch {
  /** Where it starts, in bytes. */
  readonly start: number;
  /** Its strides. */
  readonly strides: readonly number[];
}

/** What is found of pieces of the table. */
interface Partial {
  /** How many there are. */
  readonly pieces: number;
  /** The largest scores. */
  readonly tops: Scratch;
  /** Sums of the exponentials of what scores are more. */
  readonly sums: Scratch;
  /** Sums of rows with these as weights. */
  readonly rows: Scratch;
}

function partialOf(
  stages: StageBuilder,
  pieces: number,
  N: number,
  D: number,
): Partial {
  const columns = toPanels(N), width = toPanels(D);
  const take = (...strides: [number, ...number[]]): Scratch => {
    return { start: stages.takeCommon(4 * pieces * strides[0]), strides };
  };
  return {
    pieces,
    tops: take(columns, 1),
    sums: take(columns, 1),
    rows: take(N * width, width, 1),
  };
}

/** Adds the stages that make results of those of pieces. */
function combine(
  stages: StageBuilder,
  { pieces, tops, sums, rows }: Partial,
  { total, logSum, ofX, weight }:
    & {
      readonly [K in "total" | "logSum" | "ofX"]: Strided | null | undefined;
    }
    & { readonly weight: Strided },
): void {
  const buffer = stages.common, dtype = "f32";
  /** The view over [N, pieces], or [N, D, pieces]. */
  const over = ({ start, strides: [piece, ...inner] }: Scratch): View => {
    return { offset: start / 4, strides: [...inner, piece!] };
  };
  const load = (view: View): Expr => ({ kind: "load", buffer, view, dtype });
  const call = (op: ScalarOp, ...args: Expr[]): Expr => {
    return { kind: "call", op, args, dtype };
  };
  const acc = (index: number): Expr => ({ kind: "acc", index, dtype });
  const { shape } = weight, [N] = shape as [number];
  const share = call("exp", call("sub", load(over(tops)), acc(0)));
  const shares = over(sums);
  const toTotal = call("div", share, acc(1));
  const inScratch: Strided = {
    buffer,
    view: { offset: stages.takeCommon(4 * N) / 4, strides: [1] },
    dtype,
    shape,
  };
  const sum = call("add", acc(0), call("log", acc(1)));
  emitReduce(stages, {
    kind: "reduce",
    shape,
    over: [pieces],
    passes: [
      { reductions: [{ combine: "max", body: load(over(tops)) }], outputs: [] },
      {
        reductions: [{
          combine: "sum",
          body: call("mul", share, load(over(sums))),
        }],
        outputs: [],
      },
      ...ofX
        ? [{
          reductions: [],
          outputs: [{ buffer, view: shares, expr: toTotal }],
        }]
        : [],
    ],
    outputs: [
      ...logSum ? [{ ...logSum, expr: sum }] : [],
      ...total ? [{ ...inScratch, expr: sum }] : [],
    ],
  });
  if (total) emitTotal(stages, { logSum: inScratch, weight }, total);
  if (!ofX) return;
  const [n, piece] = shares.strides as [number, number];
  const byPiece = load({ offset: shares.offset, strides: [n, 0, piece] });
  const { offset, strides } = weight.view;
  const weights = { offset, strides: [strides[0]!, 0] };
  emitReduce(stages, {
    kind: "reduce",
    shape: ofX.shape,
    over: [pieces],
    passes: [{
      reductions: [{
        combine: "sum",
        body: call("mul", byPiece, load(over(rows))),
      }],
      outputs: [],
    }],
    outputs: [{
      ...ofX,
      expr: call("mul", acc(0), { kind: "load", ...weight, view: weights }),
    }],
  });
}
