/**
 * The gradient of attention as WebAssembly: blocks of scores are computed again, and never stored (FlashAttention-2,
 * arXiv 2307.08691, algorithm 2; here the outer loop is over queries, so that their cotangents are written once).
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { AttentionSpec } from "../fused_spec.ts";
import type { FusedKernel, Strided } from "../plan/kernel.ts";
import type { Block, Bound, Pointer } from "./assembler.ts";
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
  type Unit,
} from "./attention_blocks.ts";
import {
  clear,
  copyMask,
  eachRow,
  eachVector,
  hideRest,
  keysOf,
  pick,
  seenOf,
  type Shown,
  storeRow,
  TOGETHER,
} from "./attention_rows.ts";
import type { Lanes } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import { type Part, splitAxis } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { STRIP } from "./strips.ts";
import { exp2OfWeight } from "./vector_math.ts";
import { MADD, PACK } from "./work.ts";

/** Most queries of a block. */
const QUERIES = 48;

/** Nanoseconds for the weight of a pair and its cotangent, beside their products. */
const WEIGHT = 1.2;

/** Emits the gradient of attention as a stage. Threads share key heads, so that each sum is taken by one of them. */
export function emitAttentionGrad(
  stages: StageBuilder,
  kernel: FusedKernel<AttentionSpec>,
): void {
  const { spec } = kernel;
  const sizes = sizesOf(kernel, QUERIES);
  const { units, G, S, D, source, width, rows } = sizes;
  const work = units *
    (G * pairsOf(sizes, spec) * (5 * D * MADD + WEIGHT) + 3 * S * D * PACK);
  const split = stages.divide(work, () => splitAxis(0, units, 1));
  const room = {
    keys: stages.takeOwn(4 * source * D),
    values: stages.takeOwn(4 * source * D),
    keyRows: stages.takeOwn(4 * S * width),
    queries: stages.takeOwn(4 * rows * width),
    cotangents: stages.takeOwn(4 * rows * width),
    scores: stages.takeOwn(rows * strideOf(sizes)),
    products: stages.takeOwn(rows * strideOf(sizes)),
    dq: stages.takeOwn(4 * rows * width),
    dk: stages.takeOwn(4 * S * width),
    dv: stages.takeOwn(4 * S * width),
    seen: stages.takeOwn(spec.masked ? 4 * source : 0),
  };
  stages.add(
    work,
    split,
    (lanes, part) => emitUnits(lanes, kernel, sizes, room, stages.own, part),
  );
}

/** What there is in a thread's scratch memory. */
type Name =
  | "keys"
  | "values"
  | "keyRows"
  | "queries"
  | "cotangents"
  | "scores"
  | "products"
  | "dq"
  | "dk"
  | "dv"
  | "seen";

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
  const [q, k, values, ct, logSum, delta] = operands as [
    Strided,
    Strided,
    Strided,
    Strided,
    Strided,
    Strided,
  ];
  const mask = spec.masked ? operands[6] : null;
  const { sight, prepare } = sightOf(code, kernel);
  const [dq, dk, dv] = results;
  const { units, T, S, D, width } = sizes;
  const room = places(code, own, offsets);
  const get = (local: Pointer) => () => code.get(local);
  const scoreStride = strideOf(sizes), rowStride = 4 * width;

  eachUnit(code, sizes, part ?? { from: 0, to: units }, (unit) => {
    prepare(unit);
    const packKeys = (
      order: "rows" | "columns",
      x: Strided,
      to: Pointer,
    ): void => {
      const from = addressOf(code, x, unit, { local: unit.head, axis: -2 });
      const [k, n] = order === "rows" ? [S, D] : [D, S];
      pack(v, order, get(from), timeStride(x), get(to), k, n);
    };
    packKeys("columns", k, room.keys);
    packKeys("columns", values, room.values);
    if (dq) packKeys("rows", k, room.keyRows);
    const shown = mask ? copyMask(v, sizes, mask, unit, room.seen) : null;
    clear(v, room.dk, 0, rowStride * S);
    clear(v, room.dv, 0, rowStride * S);
    eachHead(code, sizes, unit, (head) => {
      const [query, cotangent, ...perRow] = [q, ct, logSum, delta].map((x, i) =>
        addressOf(code, x, unit, { local: head, axis: i < 2 ? -2 : -1 })
      ) as [Pointer, Pointer, Pointer, Pointer];
      const to = dq && addressOf(code, dq, unit, { local: head, axis: -2 });
      code.blocks({ from: 0, to: T }, sizes.rows, (block) => {
        const packRows = (x: Strided, from: Pointer, to: Pointer): void => {
          const stride = timeStride(x);
          const source = () => at(code, from, block.from, stride);
          pack(v, "rows", source, stride, get(to), block.size, D);
        };
        if (dk) packRows(q, query, room.queries);
        if (dv) packRows(ct, cotangent, room.cotangents);
        backward(block, query, cotangent, perRow, shown);
        if (to != null) storeRows(dq!, to, room.dq, block);
      });
    });
    store(dk, room.dk, unit);
    store(dv, room.dv, unit);
  });

  /** Leaves in `dq` the cotangents of a block of queries, and adds to those of keys and values. */
  function backward(
    block: Block,
    query: Pointer,
    cotangent: Pointer,
    perRow: readonly [Pointer, Pointer],
    shown: Shown | null,
  ): void {
    const isFirst = code.local();
    code.const(1).set(isFirst);
    const range = keysOf(code, sizes, sight, block, shown);
    code.blocks(range, sizes.keys, (seenKeys) => {
      eachStrip(block.size, (strip) => {
        const n = inPanels(code, endOf(block, strip, seenKeys));
        const pairs = (
          x: Strided,
          rows: Pointer,
          packed: Pointer,
          to: Pointer,
        ) =>
          multiply(v, {
            order: "rows",
            a: () => {
              at(code, rows, block.from, timeStride(x));
              step(strip.from, timeStride(x));
            },
            aStride: timeStride(x),
            b: () => at(code, packed, seenKeys.from, 4 * D),
            panelStride: 4 * PANEL * D,
            c: () => at(code, to, strip.from, scoreStride),
            cStride: scoreStride,
            m: strip.size,
            n,
            k: D,
            isFirst: 1,
          });
        // A strip may see none of these keys.
        code.push(n).if(() => {
          pairs(q, query, room.keys, room.scores);
          pairs(ct, cotangent, room.values, room.products);
        });
      });
      weigh(block, seenKeys, perRow);
      if (dq) {
        eachStrip(block.size, (strip) =>
          multiply(v, {
            order: "rows",
            a: () => at(code, room.products, strip.from, scoreStride),
            aStride: scoreStride,
            b: () => at(code, room.keyRows, seenKeys.from, 4 * PANEL),
            panelStride: 4 * PANEL * S,
            c: () => at(code, room.dq, strip.from, rowStride),
            cStride: rowStride,
            m: strip.size,
            n: width,
            k: endOf(block, strip, seenKeys),
            isFirst: { local: isFirst },
          }));
      }
      code.const(0).set(isFirst);
      const panelStride = panelOf(block.size);
      eachStrip(seenKeys.size, (strip) => {
        const { skipped, left } = startOf(block, strip, seenKeys);
        const add = (pairs: Pointer, rows: Pointer, to: Pointer) =>
          multiply(v, {
            order: "columns",
            a: () => {
              at(code, pairs, skipped, scoreStride);
              step(strip.from, 4);
            },
            aStride: scoreStride,
            b: () => at(code, rows, skipped, 4 * PANEL),
            panelStride,
            c: () => {
              at(code, to, seenKeys.from, rowStride);
              step(strip.from, rowStride);
            },
            cStride: rowStride,
            m: strip.size,
            n: width,
            k: left,
            isFirst: 0,
          });
        if (dk) add(room.products, room.queries, room.dk);
        if (dv) add(room.scores, room.cotangents, room.dv);
      });
    });
  }

  /** Adds to the address on the stack. */
  function step(index: Bound, bytes: number): void {
    if (index !== 0) code.push(index).const(bytes).op(i32.mul).plus();
  }

  /** Cuts a block in strips, as far as they differ in what they see. */
  function eachStrip(size: Bound, body: (strip: Block) => void): void {
    if (!spec.causal) return body({ from: 0, to: size, size });
    code.blocks({ from: 0, to: size }, STRIP, body);
  }

  /** How many keys of a block a strip of queries sees at most. */
  function endOf({ from }: Block, strip: Block, seenKeys: Block): Bound {
    if (!spec.causal) return seenKeys.size;
    const end = code.local();
    code.push(from).push(strip.to).op(i32.add).push(sight.position);
    code.op(i32.add).push(seenKeys.from).op(i32.sub).set(end);
    pick(code, end, i32.ltS, seenKeys.size);
    pick(code, end, i32.gtS, 0);
    return { local: end };
  }

  /** How many queries of a block come before a strip of keys, and how many are left. */
  function startOf(
    { from, size }: Block,
    strip: Block,
    seenKeys: Block,
  ): { skipped: Bound; left: Bound } {
    if (!spec.causal) return { skipped: 0, left: size };
    const [skipped, left] = code.locals(2);
    code.push(seenKeys.from).push(strip.from).op(i32.add).push(from);
    code.op(i32.sub).push(sight.position).op(i32.sub).set(skipped);
    pick(code, skipped, i32.gtS, 0);
    pick(code, skipped, i32.ltS, size);
    code.push(size).get(skipped).op(i32.sub).set(left);
    return { skipped: { local: skipped }, left: { local: left } };
  }

  /** Bytes of a panel of so many rows. */
  function panelOf(rows: Bound): Bound {
    if (typeof rows === "number") return 4 * PANEL * rows;
    const local = code.local();
    code.push(rows).const(4 * PANEL).op(i32.mul).set(local);
    return { local };
  }

  /** Turns scores into weights P, and the products dP of cotangents and values into dS = P (dP - delta). */
  function weigh(
    block: Block,
    seenKeys: Block,
    perRow: readonly [Pointer, Pointer],
  ): void {
    const words = mask ? code.pointer() : undefined;
    if (words !== undefined) at(code, room.seen, seenKeys.from, 4).set(words);
    const walks = [
      [room.scores, scoreStride],
      [room.products, scoreStride],
    ] as const;
    eachRow(code, block, walks, (time, [score, product]) => {
      const seen = seenOf(v, sight, score!, time, seenKeys);
      const ends = [{ local: seen.first }, { local: seen.end }] as const;
      const [log, shift] = [logSum, delta].map((x, i) => {
        at(code, perRow[i]!, { local: time }, 4 * x.view.strides.at(-2)!);
        code.memory(v128.load32Splat);
        return v.pop();
      });
      const base = v.f32(f32x4.mul, log!, -Math.LOG2E);
      const rows = [score!, product!, ...words === undefined ? [] : [words]];
      eachVector(v, rows, ...ends, ([p, dp, word], turn) => {
        const load = (from: Pointer) => {
          code.get(from).memory(v128.load, 16 * turn);
          return v.pop();
        };
        let scaled = v.madd(load(p!), spec.scale * Math.LOG2E, base);
        if (word !== undefined) {
          scaled = v.select(load(word), scaled, -Infinity);
        }
        const weight = exp2OfWeight(v, scaled);
        code.get(p!, weight.local).memory(v128.store, 16 * turn);
        const change = v.f32(f32x4.sub, load(dp!), shift!);
        const slope = v.f32(f32x4.mul, weight, change);
        code.get(dp!, v.f32(f32x4.mul, slope, spec.scale).local);
        code.memory(v128.store, 16 * turn);
      }, TOGETHER);
      if (!spec.causal) return;
      for (const row of [score!, product!]) hideRest(v, sight, row, seen);
    });
  }

  function storeRows(
    x: Strided,
    to: Pointer,
    from: Pointer,
    block: Block,
  ): void {
    eachRow(code, block, [[from, rowStride]], (time, [row]) => {
      const into = code.pointer();
      at(code, to, { local: time }, timeStride(x)).set(into);
      storeRow(v, D, row!, into, null);
    });
  }

  /** Stores the cotangents of all keys or values of a unit. */
  function store(
    x: Strided | null | undefined,
    from: Pointer,
    unit: Unit,
  ): void {
    if (!x) return;
    const to = addressOf(code, x, unit, { local: unit.head, axis: -2 });
    storeRows(x, to, from, { from: 0, to: S, size: S });
  }
}
