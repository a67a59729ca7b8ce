/**
 * Attention as WebAssembly: blocks of scores in scratch memory, which become weights there and are multiplied with the
 * values, so that no score is ever stored (FlashAttention-2, arXiv 2307.08691, algorithm 1).
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { AttentionSpec } from "../fused_spec.ts";
import type { FusedKernel } from "../plan/kernel.ts";
import type { Block, Local, Pointer, Range } from "./assembler.ts";
import {
  addressOf,
  at,
  eachHead,
  eachUnit,
  inPanels,
  multiply,
  pack,
  pairsOf,
  places,
  sightOf,
  type Sizes,
  sizesOf,
  strideOf,
  timeStride,
} from "./attention_blocks.ts";
import {
  copyMask,
  eachRow,
  eachVector,
  hideRest,
  keysOf,
  seenOf,
  type Shown,
  storeRow,
  TOGETHER,
} from "./attention_rows.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import {
  type Division,
  type Part,
  shareOf,
  type Split,
  splitAxis,
} from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { STRIP } from "./strips.ts";
import { exp2OfWeight, log } from "./vector_math.ts";
import { MADD, PACK } from "./work.ts";

/** Nanoseconds for the weight of a pair, beside its products. */
const WEIGHT = 1;

/** Share of the time that threads must be busy for units to be what they share. */
const BUSY = 0.8;

/** Emits attention as a stage. */
export function emitAttention(
  stages: StageBuilder,
  kernel: FusedKernel<AttentionSpec>,
): void {
  const { spec } = kernel;
  const sizes = sizesOf(kernel, STRIP);
  const { units, G, S, D, source, width, rows } = sizes;
  const perUnit = G * pairsOf(sizes, spec) * (2 * D * MADD + WEIGHT) +
    2 * S * D * PACK;
  const work = units * perUnit;
  const split = stages.divide(work, (division) => splitOf(sizes, division));
  const room = {
    keys: stages.takeOwn(4 * source * D),
    values: stages.takeOwn(4 * S * width),
    scores: stages.takeOwn(rows * strideOf(sizes)),
    sums: stages.takeOwn(4 * rows * width),
    seen: stages.takeOwn(spec.masked ? 4 * source : 0),
    // The largest score of each row, and the sum of its weights.
    stats: stages.takeOwn(8 * rows),
  };
  stages.add(
    work,
    split,
    (lanes, part) => emitUnits(lanes, kernel, sizes, room, stages.own, part),
  );
}

/** Key heads, or where these are too few blocks of queries: each thread then packs all keys and values. */
function splitOf({ units, T, rows }: Sizes, { threads }: Division): Split {
  const byUnits = splitAxis(0, units, 1);
  const byQueries = splitAxis(1, T, rows);
  return shareOf(byUnits, threads) >= BUSY ||
      shareOf(byQueries, threads) < shareOf(byUnits, threads)
    ? byUnits
    : byQueries;
}

/** What there is in a thread's scratch memory. */
type Name = "keys" | "values" | "scores" | "sums" | "seen" | "stats";

function emitUnits(
  v: Lanes,
  kernel: FusedKernel<AttentionSpec>,
  sizes: Sizes,
  offsets: Readonly<Record<Name, number>>,
  own: Pointer,
  part: Part | null,
): void {
  const { code } = v;
  const { spec, operands, results } = kernel;
  const [queries, keys, values] = operands;
  const mask = spec.masked ? operands[3] : null;
  const [out, logSum] = results;
  const { units, T, S, D, width, rows } = sizes;
  const room = places(code, own, offsets);
  const get = (local: Pointer) => () => code.get(local);
  const rangeOf = (axis: number, extent: number): Range =>
    part?.axis === axis ? part : { from: 0, to: extent };
  const scoreStride = strideOf(sizes), sumStride = 4 * width;
  // Where all keys are one block, its weights are final at once.
  const isWhole = S <= sizes.keys;
  const { sight, prepare } = sightOf(code, kernel);

  eachUnit(code, sizes, rangeOf(0, units), (unit) => {
    prepare(unit);
    const head = { local: unit.head, axis: -2 };
    const from = addressOf(code, keys!, unit, head);
    pack(v, "columns", get(from), timeStride(keys!), get(room.keys), D, S);
    const valuesAt = addressOf(code, values!, unit, head);
    const stride = timeStride(values!);
    pack(v, "rows", get(valuesAt), stride, get(room.values), S, D);
    const shown = mask ? copyMask(v, sizes, mask, unit, room.seen) : null;
    eachHead(code, sizes, unit, (local) => {
      const query = addressOf(code, queries!, unit, { local, axis: -2 });
      const to = out && addressOf(code, out, unit, { local, axis: -2 });
      const log = logSum &&
        addressOf(code, logSum, unit, { local, axis: -1 });
      code.blocks(rangeOf(1, T), rows, (block) => {
        attend(query, block, shown);
        finish(block, to, log);
      });
    });
  });

  /** Leaves in `sums` the weighted sums of values of a block of queries, and in `stats` what they are divided by. */
  function attend(query: Pointer, block: Block, shown: Shown | null): void {
    const isFirst = code.local();
    code.const(1).set(isFirst);
    const range = keysOf(code, sizes, sight, block, shown);
    code.blocks(range, sizes.keys, (seenKeys) => {
      multiply(v, {
        order: "rows",
        a: () => at(code, query, block.from, timeStride(queries!)),
        aStride: timeStride(queries!),
        b: () => at(code, room.keys, seenKeys.from, 4 * D),
        panelStride: 4 * PANEL * D,
        c: get(room.scores),
        cStride: scoreStride,
        m: block.size,
        n: inPanels(code, seenKeys.size),
        k: D,
        isFirst: 1,
      });
      weigh(block, seenKeys, isFirst);
      multiply(v, {
        order: "rows",
        a: get(room.scores),
        aStride: scoreStride,
        b: () => at(code, room.values, seenKeys.from, 4 * PANEL),
        panelStride: 4 * PANEL * S,
        c: get(room.sums),
        cStride: sumStride,
        m: block.size,
        n: width,
        k: seenKeys.size,
        isFirst: { local: isFirst },
      });
      code.const(0).set(isFirst);
    });
  }

  /** Turns a block of scores into weights, relative to the largest score of a row so far. */
  function weigh(block: Block, seenKeys: Block, isFirst: Local): void {
    const turns = Array.from({ length: TOGETHER });
    const scale = spec.scale * Math.LOG2E;
    const words = mask ? code.pointer() : undefined;
    if (words !== undefined) {
      at(code, room.seen, seenKeys.from, 4).set(words);
    }
    const walks = [[room.scores, scoreStride], [room.stats, 4], [
      room.sums,
      sumStride,
    ]] as const;
    eachRow(code, block, walks, (time, [row, stat, sum]) => {
      const seen = seenOf(v, sight, row!, time, seenKeys);
      const ends = [{ local: seen.first }, { local: seen.end }] as const;
      const [most, total] = [v.variable(), v.variable()];
      const mosts = turns.map(() => v.variable());
      mosts.forEach((x) => v.assign(x, -Infinity));
      const rowAndMask = words === undefined ? [row!] : [row!, words];
      eachVector(v, rowAndMask, ...ends, ([p, word], turn) => {
        code.get(p!).memory(v128.load, 16 * turn);
        let score = v.pop();
        if (word !== undefined) {
          code.get(word).memory(v128.load, 16 * turn);
          score = v.select(v.pop(), score, -Infinity);
          code.get(p!, score.local).memory(v128.store, 16 * turn);
        }
        v.assign(mosts[turn]!, v.f32(f32x4.pmax, mosts[turn]!, score));
      }, TOGETHER);
      const larger = (a: Vec, b: Vec) => v.f32(f32x4.pmax, a, b);
      v.assign(most, v.fold(mosts.reduce(larger), larger));
      const before = isWhole ? null : statOf(stat!, 0);
      if (before) {
        code.get(isFirst).op(i32.eqz).if(() =>
          v.assign(most, larger(most, before))
        );
      }
      // Of a row that sees nothing all weights are 0.
      const shift = finite(most);
      const weightOf = (score: Vec): Vec =>
        exp2OfWeight(
          v,
          v.f32(f32x4.mul, v.f32(f32x4.sub, score, shift), scale),
        );
      const totals = turns.map(() => v.variable());
      totals.forEach((x) => v.assign(x, 0));
      eachVector(v, [row!], ...ends, ([p], turn) => {
        code.get(p!).memory(v128.load, 16 * turn);
        const weight = weightOf(v.pop());
        code.get(p!, weight.local).memory(v128.store, 16 * turn);
        v.assign(totals[turn]!, v.f32(f32x4.add, totals[turn]!, weight));
      }, TOGETHER);
      const plus = (a: Vec, b: Vec) => v.f32(f32x4.add, a, b);
      v.assign(total, v.fold(totals.reduce(plus), plus));
      if (spec.causal) hideRest(v, sight, row!, seen);
      if (before) {
        code.get(isFirst).op(i32.eqz).if(() => {
          const factor = weightOf(before);
          v.assign(total, v.madd(statOf(stat!, 1), factor, total));
          eachVector(v, [sum!], 0, sumStride, ([p]) => {
            code.get(p!).get(p!).memory(v128.load);
            code.get(factor.local).op(f32x4.mul).memory(v128.store);
          });
        });
      }
      code.get(stat!, most.local).memory(v128.store32Lane, 0, 0);
      code.get(stat!, total.local).memory(v128.store32Lane, 4 * rows, 0);
    });
  }

  /** Divides the sums of a block, and stores them and the logarithms of what they are divided by. */
  function finish(
    block: Block,
    to: Pointer | null | undefined,
    logs: Pointer | null | undefined,
  ): void {
    const walks = [[room.stats, 4], [room.sums, sumStride]] as const;
    eachRow(code, block, walks, (time, [stat, sum]) => {
      const total = statOf(stat!, 1);
      const isSeen = v.f32(f32x4.ne, total, 0);
      if (to != null) {
        const inverse = v.f32(
          v128.and,
          v.f32(f32x4.div, v.float(1), total),
          isSeen,
        );
        const into = code.pointer();
        at(code, to, { local: time }, timeStride(out!)).set(into);
        storeRow(v, D, sum!, into, inverse);
      }
      if (logs == null) return;
      const sumOfAll = v.madd(statOf(stat!, 0), spec.scale, log(v, total));
      at(code, logs, { local: time }, 4 * logSum!.view.strides.at(-2)!);
      code.get(v.f32(v128.and, sumOfAll, isSeen).local);
      code.memory(v128.store32Lane, 0, 0);
    });
  }

  /** The largest score of a row, or the sum of its weights, in all lanes. */
  function statOf(stat: Pointer, which: 0 | 1): Vec {
    code.get(stat).memory(v128.load32Splat, 4 * rows * which);
    return v.pop();
  }

  /** A number, or 0 where it is -∞. */
  function finite(x: Vec): Vec {
    return v.f32(v128.and, x, v.f32(f32x4.ne, x, -Infinity));
  }
}
