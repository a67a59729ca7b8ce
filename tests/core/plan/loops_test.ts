import { assertEquals } from "@std/assert";
import type { Loop, Plan } from "../../../core/plan/kernel.ts";
import { walkSteps } from "../../../core/plan/loops.ts";

function order(steps: number, loops: Loop[]): string {
  const ran: number[] = [];
  const plan: Pick<Plan, "steps" | "loops"> = {
    steps: new Array(steps),
    loops,
  };
  walkSteps(plan, (step) => ran.push(step), (trips, body) => {
    for (let trip = 0; trip < trips; trip++) body();
  });
  return ran.join("");
}

Deno.test("steps run in order, and those of loops as often as the loops say", () => {
  assertEquals(order(3, []), "012");
  assertEquals(order(4, [{ first: 1, end: 3, trips: 3 }]), "01212123");
  assertEquals(
    order(4, [{ first: 0, end: 2, trips: 2 }, { first: 2, end: 4, trips: 2 }]),
    "01012323",
  );
});

Deno.test("loops nest, also where they begin or end together", () => {
  const outer = { first: 0, end: 3, trips: 2 };
  assertEquals(order(4, [outer, { first: 1, end: 2, trips: 2 }]), "011201123");
  assertEquals(
    order(4, [outer, { first: 0, end: 2, trips: 2 }]),
    "01012010123",
  );
  assertEquals(order(3, [outer, { first: 2, end: 3, trips: 2 }]), "01220122");
});
