/**
 * The gradient of a head's table, for which scores are computed again: Pᵀ x with P = ct · exp(score - logSum).
 *
 * Letters: N examples, V rows of the table, D their size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { FusedKernel, Strided } from "../plan/kernel.ts";
import { type Bound, type Pointer, SGEMM } from "./assembler.ts";
import { examplesOf, pushStart, scoresOf, toPanels } from "./head_scores.ts";
import type { Lanes } from "./lanes.ts";
import { emitMap } from "./map.ts";
import { i32 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import { weigh } from "./score_columns.ts";
import { sharedNumbers } from "./shared.ts";
import { splitAxis } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { STRIP } from "./strips.ts";
import { MADD, PACK } from "./work.ts";

/**
 * Emits the gradient [V, D] from f32 [N, D], [V, D], the logarithms of sums [N] and their cotangents [N]; gives how many
 * of the shared functions it needs.
 */
export function emitHeadGradient(
  stages: StageBuilder,
  { operands, results }: FusedKernel,
): number {
  const [x, table, logSum, ct] = operands as [
    Strided,
    Strided,
    Strided,
    Strided,
  ];
  const [result] = results as [Strided];
  const [N, D] = x.shape as [number, number], V = table.shape[0]!;
  const { common } = stages;
  const shared = sharedNumbers();
  const scores = scoresOf(stages, { x, table });
  const { group, stride } = scores;
  const logSums = padded(stages, logSum), cts = padded(stages, ct);
  const row = 4 * x.view.strides[0]!;
  const panels = stages.hasBlas ? 0 : stages.takeCommon(4 * N * toPanels(D));
  /** The address of what there is of an example in scratch memory. */
  const addressIn = (
    { code }: Lanes,
    start: number,
    bytes: number,
    example: Bound,
  ): Pointer => {
    const local = code.pointer();
    code.push(example).const(bytes).op(i32.mul).from(common);
    code.const(start).plus().set(local);
    return local;
  };

  const packExamples = (lanes: Lanes): void => {
    const { code } = lanes;
    code.blocks(
      { from: 0, to: N },
      group,
      ({ from, size }) =>
        code.scope(() => {
          const to = addressIn(lanes, panels, 4 * toPanels(D), from);
          pushStart(code, x).push(from).const(row).op(i32.mul).plus();
          code.const(row).get(to).push(size).const(D).call(
            shared.pack.f32.rows,
          );
        }),
    );
  };
  if (!stages.hasBlas) stages.add(PACK * N * D, null, packExamples);

  const work = 2 * MADD * N * V * D;
  const split = stages.divide(work, () => splitAxis(0, V, scores.rows));
  stages.add(work, split, (lanes, part) => {
    const { code } = lanes;
    code.blocks(
      part ?? { from: 0, to: V },
      scores.rows,
      (rows) =>
        code.blocks({ from: 0, to: N }, group, (block) =>
          code.scope(() => {
            const examples = examplesOf(code, block), { from } = examples;
            const { at } = scores.emit(lanes, examples, rows);
            const weighing = {
              count: examples.columns,
              logSum: addressIn(lanes, logSums, 4, from),
              ct: addressIn(lanes, cts, 4, from),
            };
            weigh(lanes, weighing, { at, stride, count: rows.size });
            if (stages.hasBlas) {
              code.const(0).const(0).push(rows.size).const(D);
              code.push(examples.count).get(at).const(stride / 4);
              pushStart(code, x).push(from).const(row).op(i32.mul).plus();
              code.const(row / 4);
              pushStart(code, result).push(rows.from).const(4 * D);
              code.op(i32.mul).plus().const(D);
              code.push(from).const(0).op(i32.ne).callImported(SGEMM);
              return;
            }
            const packed = addressIn(lanes, panels, 4 * toPanels(D), from);
            code.get(at).const(stride).const(STRIP * stride);
            code.get(packed).const(4 * PANEL);
            code.push(examples.count).const(4 * PANEL).op(i32.mul);
            pushStart(code, result).push(rows.from).const(4 * D).op(i32.mul);
            code.plus().const(4 * D);
            code.push(rows.size).const(D).push(examples.count);
            code.push(from).op(i32.eqz);
            scores.pushTile(code);
            code.call(shared.rows);
          })),
    );
  });
  return scores.shared;
}

/** Adds a stage that copies a value for each example to where whole panels of them can be read; gives where that is. */
function padded(stages: StageBuilder, from: Strided): number {
  const start = stages.takeCommon(4 * toPanels(from.shape[0]!));
  const output = {
    buffer: stages.common,
    view: { offset: start / 4, strides: [1] },
    expr: { kind: "load", ...from } as const,
  };
  emitMap(stages, { kind: "map", shape: from.shape, outputs: [output] });
  return start;
}
