/**
 * Cotan's process: `cotan.ts CASE THREADS [BLAS]`, on the wasm backend.
 *
 * @module
 */

import { init } from "cotan";
import { serve } from "./serve.ts";
import { workload } from "./workloads.ts";

const [, threads, blas = false] = Deno.args;
await init({ backend: "wasm", threads: Number(threads), blas });
await serve(workload);
Deno.exit(0);
