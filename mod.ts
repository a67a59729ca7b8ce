/**
 * Cotan: a small functional reverse-mode autodiff engine with WebGPU and WebAssembly backends.
 *
 * This module is browser compatible.
 *
 * @module
 */

export * from "./core/mod.ts";
