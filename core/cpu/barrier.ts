/**
 * A barrier in WebAssembly: threads look for a while whether all have come, and then sleep.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type AddressBits,
  type FunctionCode,
  functionOf,
} from "./assembler.ts";
import { control, SPINS } from "./control.ts";
import { atomic, control as flow, drop, i32, i64 } from "./opcodes.ts";

/** How often a thread that may not sleep looks as long as that: for a minute or more. */
const MOST_ROUNDS = 2 ** 20;

/** What waiting gives when the time is over. */
const TIMED_OUT = 2;

/**
 * `(thread, threads)`: returns when all threads have called it. Traps when one has failed, and in the first thread when
 * the others do not come.
 */
export function barrier(bits: AddressBits): FunctionCode {
  const { code, parameters } = functionOf(bits, "ii");
  const [thread, threads] = parameters;
  const [round, looks, patience] = code.locals(3);
  const word = (opcode: number, address: number) =>
    code.address(0).atomic(opcode, address);
  const change = (address: number, by: number) =>
    code.address(0).const(by).atomic(atomic.add, address);
  const fail = () => code.op(flow.unreachable);

  const sleep = () => {
    change(control.asleep, 1).op(drop);
    code.address(0).get(round);
    code.get(thread).if(
      () => code.const(-1).set(patience),
      () => word(atomic.load, control.patience).set(patience),
    );
    code.get(patience).op(i64.extendS);
    code.long(1_000_000).op(i64.mul);
    code.atomic(atomic.wait, control.round).set(patience);
    change(control.asleep, -1).op(drop);
    code.get(patience).const(TIMED_OUT).op(i32.eq).if(fail);
    code.const(0).set(looks);
  };
  const lookAgain = () => {
    code.const(SPINS).set(looks).increment(patience, -1);
    code.get(patience).op(i32.eqz).if(fail);
  };
  const isRound = () => word(atomic.load, control.round).get(round).op(i32.eq);

  code.get(threads).const(1).op(i32.gtS).if(() => {
    word(atomic.load, control.round).set(round);
    change(control.arrived, 1).const(1).op(i32.add).get(threads).op(i32.eq);
    code.if(() => {
      code.address(0).const(0).atomic(atomic.store, control.arrived);
      change(control.round, 1).op(drop);
      word(atomic.load, control.asleep).if(() =>
        code.address(0).get(threads).atomic(atomic.notify, control.round)
          .op(drop)
      );
    }, () => {
      code.const(SPINS).set(looks).const(MOST_ROUNDS).set(patience);
      code.while(isRound, () => {
        code.increment(looks, -1).get(looks).const(0).op(i32.leS).if(() => {
          word(atomic.load, control.failed).if(fail);
          code.get(thread);
          word(atomic.load, control.maySleep).op(i32.or).if(sleep, lookAgain);
        });
      });
      word(atomic.load, control.failed).if(fail);
    });
  });
  return code.finish();
}
