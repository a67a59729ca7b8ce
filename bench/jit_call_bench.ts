/**
 * What a call of a jitted function costs in JavaScript: a state of 4 trees of 150 tensors is donated and comes out as
 * it is, so that the program itself does nothing.
 *
 * @module
 */

import { init } from "cotan";
import { passing } from "../tests/support/passing.ts";

await init({ backend: "wasm" });
Deno.bench("a jitted call that passes 600 tensors on, wasm", passing());
