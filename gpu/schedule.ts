/**
 * Schedules: how kernels are laid out on a kind of adapter. All schedules give the same results but for rounding.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Sizes and strategies that suit one kind of adapter. */
export interface Schedule {
  /** Maps and reductions by single invocations. */
  readonly invocations: {
    /** Invocations a workgroup. */
    readonly workgroup: number;
    /** Groups of four points an invocation of a map, one after another. */
    readonly vectors: number;
  };
  /** Reductions. */
  readonly reduce: {
    /** Most invocations that share a row, through workgroup memory; 1 where barriers are slow. */
    readonly lanes: number;
    /** Invocations that keep the adapter busy: fewer rows than that are cut into pieces. */
    readonly enough: number;
    /** The same where neighbours are of different rows: pieces of a column stay in the cache as well. */
    readonly enoughColumns: number;
    /** Fewest elements of a piece. */
    readonly piece: number;
  };
  /** Matrix products. */
  readonly matmul: {
    /** Tiles of registers fed from the cache, or tiles in workgroup memory. */
    readonly tiles: "register" | "shared";
    /** Workgroups that keep the adapter busy: fewer are given pieces of the inner axis. */
    readonly enough: number;
    /** Fewest inner elements of a piece. */
    readonly piece: number;
  };
}

/**
 * Most iterations of the loops of one invocation, all together: llvmpipe leaves them after 65536 without a word
 * (LP_MAX_TGSI_LOOP_ITERATIONS).
 */
export const mostIterations = 60000;

/** Name of a schedule. */
export type ScheduleName = keyof typeof schedules;

/** The schedules by kind of adapter. */
export const schedules = {
  /** A rasterizer on the processor: lanes are SIMD lanes, barriers and workgroup memory cost much. */
  software: {
    invocations: { workgroup: 64, vectors: 4 },
    reduce: { lanes: 1, enough: 256, enoughColumns: 4096, piece: 256 },
    matmul: { tiles: "register", enough: 8, piece: 512 },
  },
  /** A graphics processor. */
  hardware: {
    invocations: { workgroup: 64, vectors: 1 },
    reduce: { lanes: 256, enough: 16384, enoughColumns: 16384, piece: 64 },
    matmul: { tiles: "shared", enough: 64, piece: 256 },
  },
} as const satisfies Record<string, Schedule>;
