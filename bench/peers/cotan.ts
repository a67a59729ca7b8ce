/**
 * Cotan's process: `cotan.ts CASE THREADS`, on the wasm backend.
 *
 * @module
 */

import { init } from "cotan";
import { serve } from "./serve.ts";
import { workload } from "./workloads.ts";

await init({ backend: "wasm", threads: Number(Deno.args[1]) });
await serve(workload);
Deno.exit(0);
