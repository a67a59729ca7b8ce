/**
 * The first words of a memory that threads share, through which they start together and wait for one another.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Addresses of the words. Those that one thread writes while others look are on lines of their own. */
export const control = {
  /** Counts the jobs; workers wait for it to change. */
  job: 64,
  /** Workers that sleep until then. */
  idle: 68,
  /** Number of the program of the job; 0 ends the workers. */
  program: 72,
  /** Address of the program's table, in lines, so that the word reaches beyond 4 GiB. */
  table: 76,
  /** Address of the program's module, in lines, and how long that is in bytes. */
  code: 80,
  codeBytes: 84,
  /** Workers that have started. */
  ready: 88,
  /** 1 when a thread has failed. */
  failed: 92,
  /** Milliseconds that the first thread waits for the others. */
  patience: 96,
  /** 1 if the first thread may sleep. */
  maySleep: 100,
  /** Counts the barriers that all threads have reached. */
  round: 128,
  /** Threads that sleep until the next. */
  asleep: 132,
  /** Threads that have reached the barrier. */
  arrived: 192,
  /** Where blocks may begin. */
  end: 256,
} as const;

/** How often a thread looks before it sleeps: some fifty microseconds, about as long as it takes to wake it. */
export const SPINS = 100_000;
