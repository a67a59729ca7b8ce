/**
 * The arena: pages for intermediate values, shared by all programs of a device. Programs run one after another, so each
 * page is as large as the largest need of any.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { alignment, type Buffers, roundUp } from "./buffers.ts";
import type { Region } from "./region.ts";

const arena = "the arena of a program";

/** Pages of intermediate values. */
export class Arena {
  readonly #buffers: Buffers;
  readonly #needs = new Set<readonly number[]>();
  #pages: Region[] = [];
  #version = 0;

  /** Takes its pages from `buffers`. */
  constructor(buffers: Buffers) {
    this.#buffers = buffers;
  }

  /** Grows whenever pages are replaced: bindings made before are void then. */
  get version(): number {
    return this.#version;
  }

  /** Makes sure of the pages that a program needs, given by their bytes, for as long as it lives. */
  reserve(need: readonly number[]): void {
    if (this.#needs.has(need)) return;
    const grows = need.map((bytes, page) =>
      Math.max(0, roundUp(bytes, alignment) - (this.#pages[page]?.size ?? 0))
    );
    // All or none: other programs need the pages as they are.
    this.#buffers.ensure(grows.reduce((a, b) => a + b, 0), arena);
    this.#needs.add(need);
    need.forEach((bytes, page) => grows[page]! && this.#replace(page, bytes));
  }

  /** A program is gone: pages that are much larger than any other needs shrink. */
  release(need: readonly number[]): void {
    if (!this.#needs.delete(need)) return;
    this.#pages.forEach(({ size }, page) => {
      const bytes = Math.max(0, ...[...this.#needs].map((n) => n[page] ?? 0));
      if (roundUp(bytes, alignment) < size / 2) this.#replace(page, bytes);
    });
  }

  /** The memory of a page. */
  page(page: number): Region {
    return this.#pages[page]!;
  }

  #replace(page: number, bytes: number): void {
    const old = this.#pages[page];
    if (old) this.#buffers.destroy(old);
    this.#version++;
    const size = roundUp(bytes, alignment);
    const usage = GPUBufferUsage.STORAGE;
    this.#pages[page] = this.#buffers.create(size, usage, arena);
  }
}
