/**
 * The loss of a head with the gradient of its table, for which the sums of whole rows of scores must be known.
 *
 * Examples are taken in groups, one after another. The exponentials of the scores of a group are kept until its sums are
 * known, unless they are all that there are: those of a single group are computed again, so that only a part of the
 * scores is ever stored.
 *
 * Letters: N examples, V rows of the table, D their size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { FusedKernel, Strided } from "../plan/kernel.ts";
import {
  type Block,
  type Bound,
  type FunctionBuilder,
  type Pointer,
  SGEMM,
} from "./assembler.ts";
import {
  blockOf,
  type Examples,
  examplesOf,
  pushStart,
  scoresOf,
  toPanels,
} from "./head_scores.ts";
import { emitTotal } from "./head_total.ts";
import type { Lanes } from "./lanes.ts";
import { emitMap } from "./map.ts";
import { i32 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import {
  combineBlocks,
  exponentiate,
  scaleColumns,
  startColumns,
  sumColumns,
  sumRows,
  weigh,
} from "./score_columns.ts";
import { sharedNumbers } from "./shared.ts";
import { splitAxis } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { STRIP } from "./strips.ts";
import { MADD, PACK } from "./work.ts";

/** Pieces of the table, whose parts of a result are summed in order for any number of threads. */
const PIECES = 16;

/** Emits the function; gives how many of the shared functions it needs. */
export function emitHeadGradient(
  stages: StageBuilder,
  { operands, results }: FusedKernel,
): number {
  const [x, table, weight, bias] = operands as [
    Strided,
    Strided,
    Strided,
    Strided?,
  ];
  const [total, logSum, ofX, ofTable, ofBias] = results;
  const [N, D] = x.shape as [number, number], V = table.shape[0]!;
  const { common, own, hasBlas } = stages;
  const shared = sharedNumbers();
  const scores = scoresOf(stages, { x, table, bias }, true);
  const { group, groups, isKept, stride } = scores;
  const blocks = Math.ceil(V / scores.rows);
  const size = scores.rows * Math.ceil(blocks / PIECES);
  const pieces = Math.ceil(V / size);
  const width = toPanels(D), inGroup = group * width;
  const inX = 4 * x.view.strides[0]!;

  const take = (floats: number): number => stages.takeCommon(4 * floats);
  const counter = take(1), weights = take(groups * group);
  const tops = take(blocks * group), sums = take(blocks * group);
  const logSums = take(groups * group);
  const partial = take(ofX ? pieces * inGroup : 0);
  const rowsOfX = take(ofX ? groups * inGroup : 0);
  const panels = take(hasBlas ? 0 : groups * inGroup);
  const factors = stages.takeOwn(4 * group);
  const inStrips = (group + STRIP) * (scores.rows + STRIP);
  const strips = stages.takeOwn(hasBlas ? 0 : 4 * inStrips);

  /** The address of an element of scratch memory, one of so many floats. */
  const addressIn = (
    { code }: Lanes,
    start: number,
    index: Bound,
    floats = 1,
  ): Pointer => {
    const local = code.pointer();
    code.push(index).const(4 * floats).op(i32.mul).from(common);
    code.const(start).plus().set(local);
    return local;
  };
  /** The address of what is found of a block. */
  const foundIn = (lanes: Lanes, start: number, rows: Block): Pointer => {
    const { code } = lanes, number = code.local();
    code.push(rows.from).const(scores.rows).op(i32.divU).set(number);
    return addressIn(lanes, start, { local: number }, group);
  };
  /** The examples at work, where so many groups of those that are counted are not done. */
  const examplesNow = ({ code }: Lanes, counted: number): Examples => {
    const number = code.local();
    code.get(common).memory(i32.load, counter).const(counted).op(i32.sub);
    return examplesOf(
      code,
      blockOf(code, code.set(number) && number, group, N),
    );
  };

  stages.add(PACK * N * D, null, (lanes) => {
    const { code } = lanes;
    code.get(common).const(0).memory(i32.store, counter);
    for (let i = N; i < groups * group; i++) {
      code.get(common).const(0).memory(i32.store, weights + 4 * i);
    }
    if (hasBlas) return;
    code.blocks(
      { from: 0, to: N },
      group,
      ({ from, size }) =>
        code.scope(() => {
          const to = addressIn(lanes, panels, from, width);
          pushStart(code, x).push(from).const(inX).op(i32.mul).plus();
          code.const(inX).get(to).push(size).const(D).call(
            shared.pack.f32.rows,
          );
        }),
    );
  });
  emitMap(stages, {
    kind: "map",
    shape: [N],
    outputs: [{
      buffer: common,
      view: { offset: weights / 4, strides: [1] },
      expr: { kind: "load", ...weight },
    }],
  });

  const once = MADD * group * V * D;
  stages.repeat(groups, () => {
    const byBlock = stages.divide(once, () => splitAxis(0, V, scores.rows));
    stages.add(once, byBlock, (lanes, part) => {
      const { code } = lanes, examples = examplesNow(lanes, 0);
      code.blocks(
        part ?? { from: 0, to: V },
        scores.rows,
        (rows) =>
          code.scope(() => {
            const block = scores.tableAt(lanes, rows);
            const at = scores.emit(lanes, examples, rows, block);
            const columns = {
              count: examples.columns,
              top: foundIn(lanes, tops, rows),
              sum: foundIn(lanes, sums, rows),
              factor: code.pointer(),
            };
            code.get(own).const(factors).plus().set(columns.factor);
            startColumns(lanes, columns);
            exponentiate(lanes, columns, { at, stride, count: rows.size });
          }),
      );
    });

    stages.add(blocks * group, null, (lanes) => {
      const { from, columns } = examplesNow(lanes, 0);
      combineBlocks(lanes, {
        count: columns,
        blocks,
        stride: 4 * group,
        tops: addressIn(lanes, tops, 0),
        sums: addressIn(lanes, sums, 0),
        logSum: addressIn(lanes, logSums, from),
        weight: addressIn(lanes, weights, from),
      });
      const { code } = lanes;
      code.get(common).get(common).memory(i32.load, counter);
      code.const(1).op(i32.add).memory(i32.store, counter);
    });

    const work = once * ((ofX ? 1 : 0) + (ofTable ? 1 : 0) + (isKept ? 0 : 1));
    const byPiece = stages.divide(work, () => splitAxis(0, pieces, 1));
    stages.add(work, byPiece, (lanes, part) => {
      const { code } = lanes, examples = examplesNow(lanes, 1);
      code.blocks(part ?? { from: 0, to: pieces }, 1, (piece) => {
        const number = code.local();
        code.push(piece.from).set(number);
        const sum = addressIn(lanes, partial, { local: number }, inGroup);
        const range = blockOf(code, number, size, V);
        code.blocks(range, scores.rows, (rows) =>
          code.scope(() => {
            const block = scores.tableAt(lanes, rows);
            const at = weighted(lanes, examples, rows, block);
            if (ofX) addToX(lanes, examples, rows, { at, block, sum, range });
            if (ofTable) addToTable(lanes, examples, rows, at);
            if (ofBias) addToBias(lanes, examples, rows, at);
          }));
      });
    });

    if (!ofX) return;
    const adding = stages.divide(
      pieces * inGroup,
      () => splitAxis(0, group, 1),
    );
    stages.add(pieces * inGroup, adding, (lanes, part) => {
      const { code } = lanes, { from } = examplesNow(lanes, 1);
      code.blocks(part ?? { from: 0, to: group }, 1, (row) =>
        code.scope(() => {
          const example = code.local();
          code.push(from).push(row.from).op(i32.add).set(example);
          const at = addressIn(lanes, partial, row.from, width);
          const to = addressIn(lanes, rowsOfX, { local: example }, width);
          sumRows(lanes, width, { at, stride: 4 * inGroup, count: pieces }, to);
        }));
    });
  });

  const found = (start: number, ...strides: number[]): Strided => {
    const view = { offset: start / 4, strides };
    const shape = [N, D].slice(0, strides.length);
    return { buffer: common, view, dtype: "f32", shape };
  };
  const ready: [Strided | null | undefined, Strided][] = [
    [logSum, found(logSums, 1)],
    [ofX, found(rowsOfX, width, 1)],
  ];
  for (const [result, from] of ready) {
    if (!result) continue;
    const output = { ...result, expr: { kind: "load", ...from } as const };
    emitMap(stages, { kind: "map", shape: result.shape, outputs: [output] });
  }
  if (total) emitTotal(stages, { logSum: found(logSums, 1), weight }, total);
  return scores.shared;

  /** The shares of a block in the sums, times the weights of the examples. */
  function weighted(
    lanes: Lanes,
    examples: Examples,
    rows: Block,
    block: Pointer,
  ): Pointer {
    const { columns: count, from } = examples;
    const at = isKept
      ? scores.scoresAt(lanes, rows)
      : scores.emit(lanes, examples, rows, block);
    const list = { at, stride, count: rows.size };
    if (isKept) {
      scaleColumns(lanes, count, foundIn(lanes, tops, rows), list);
    } else {
      const logSum = addressIn(lanes, logSums, from);
      const weight = addressIn(lanes, weights, from);
      weigh(lanes, { count, logSum, weight }, list);
    }
    return at;
  }

  /** Adds the rows of a block, each times its share. */
  function addToX(
    { code }: Lanes,
    { count }: Examples,
    rows: Block,
    { at, block, sum, range }: {
      readonly at: Pointer;
      readonly block: Pointer;
      readonly sum: Pointer;
      readonly range: Block;
    },
  ): void {
    if (hasBlas) {
      code.const(1).const(0).push(count).const(D).push(rows.size);
      code.get(at).const(stride / 4).get(block).const(scores.rowStride / 4);
      code.get(sum).const(width);
      code.push(rows.from).push(range.from).op(i32.ne).callImported(SGEMM);
      return;
    }
    code.get(at).const(stride).get(own).const(strips).plus();
    code.push(rows.size).push(count).call(shared.pack.f32.stripRows);
    pushStrips(code, rows.size);
    code.get(block).const(scores.rowStride).const(4 * PANEL);
    code.get(sum).const(4 * width).push(count).const(width).push(rows.size);
    code.push(rows.from).push(range.from).op(i32.eq);
    scores.pushTile(code);
    code.call(shared.columns);
  }

  /** Adds the examples to the gradients of a block, each times its share. */
  function addToTable(
    lanes: Lanes,
    { from, count }: Examples,
    rows: Block,
    at: Pointer,
  ): void {
    const { code } = lanes;
    const pushResult = () => {
      pushStart(code, ofTable!).push(rows.from).const(4 * D).op(i32.mul);
      return code.plus();
    };
    if (hasBlas) {
      code.const(0).const(0).push(rows.size).const(D).push(count);
      code.get(at).const(stride / 4);
      pushStart(code, x).push(from).const(inX).op(i32.mul).plus();
      code.const(inX / 4);
      pushResult().const(D).push(from).const(0).op(i32.ne).callImported(SGEMM);
      return;
    }
    const packed = addressIn(lanes, panels, from, width);
    code.get(at).const(stride).get(own).const(strips).plus();
    code.push(count).push(rows.size).call(shared.pack.f32.stripColumns);
    pushStrips(code, count);
    code.get(packed).const(4 * PANEL).push(count).const(4 * PANEL).op(i32.mul);
    pushResult().const(4 * D).push(rows.size).const(D).push(count);
    code.push(from).op(i32.eqz);
    scores.pushTile(code);
    code.call(shared.columns);
  }

  /** Adds the shares to the gradient of the bias. */
  function addToBias(
    lanes: Lanes,
    examples: Examples,
    { from, size: count }: Block,
    at: Pointer,
  ): void {
    const { code } = lanes, to = code.pointer(), isFirst = code.local();
    pushStart(code, ofBias!).push(from).const(4).op(i32.mul).plus().set(to);
    code.push(examples.from).op(i32.eqz).set(isFirst);
    sumColumns(lanes, examples, { at, stride, count }, to, isFirst);
  }

  /** Pushes the packed strips of a left operand, and the bytes between their rows and between them. */
  function pushStrips(code: FunctionBuilder, k: Bound): void {
    code.get(own).const(strips).plus().const(4 * STRIP);
    code.push(k).const(4 * STRIP).op(i32.mul);
  }
}
