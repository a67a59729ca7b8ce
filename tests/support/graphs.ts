/**
 * Random small programs: surface functions composed into graphs of a few nodes.
 *
 * @module
 */

import fc from "fast-check";
import * as cotan from "cotan";
import type { Tensor } from "cotan";
import { broadcastShapes } from "../../core/shape.ts";
import { fill, seeds, sizeOf, sizes, type Value } from "./values.ts";

/** A program on f32 inputs, as plain data that fast-check can shrink and print. */
export interface Program {
  readonly inputs: readonly Value[];
  readonly steps: readonly Step[];
  /** Which values are results, besides the last. */
  readonly outputs: readonly number[];
  /** Of each input, whether it is donated. */
  readonly donated: readonly boolean[];
}

/** One function applied to earlier values. */
export interface Step {
  readonly name: keyof typeof rules;
  /** Choices of operands, axes and the like, each taken modulo what there is to choose from. */
  readonly picks: readonly number[];
}

/** What a rule may choose. */
interface Choose {
  /** A number below n. */
  below(n: number): number;
  /** An earlier value that fits, the operand itself if none does. */
  value(fits: (y: Tensor) => boolean): Tensor;
  /** An earlier value that broadcasts with the operand. */
  alike(): Tensor;
  /** One axis of the operand. */
  axis(): number;
}

type Rule = (x: Tensor, choose: Choose) => Tensor;

/** Most elements of a value: none is larger than the smallest page of the tests. */
const MOST = 250;

/** A rule for operands with axes, none of them empty; others stay as they are. */
const full = (rule: Rule): Rule => (x, choose) =>
  x.shape.length > 0 && sizeOf(x.shape) > 0 ? rule(x, choose) : x;

/** A rule whose results are larger than its operand: it fits while they are not too large. */
const growing = (rule: Rule): Rule => (x, choose) => {
  const y = rule(x, choose);
  return sizeOf(y.shape) <= MOST ? y : x;
};

// Every rule keeps values small, so that rounding stays rounding. Comparisons are with numbers that no value is likely
// to hit. Where a rule does not fit, it gives its operand.
const rules = {
  tanh: (x) => x.tanh(),
  sin: (x) => x.sin(),
  exp: (x) => x.abs().neg().exp(),
  log: (x) => x.square().add(1).log(),
  rsqrt: (x) => x.square().add(1).rsqrt(),
  erf: (x) => x.erf(),
  silu: (x) => x.silu(),
  halved: (x) => x.mul(0.5).sub(0.25),
  stopped: (x) => x.stopGradient().add(x).mul(0.5),
  add: (x, choose) => x.add(choose.alike()),
  sub: (x, choose) => choose.alike().sub(x),
  mul: (x, choose) => x.mul(choose.alike().tanh()),
  div: (x, choose) => x.div(choose.alike().square().add(1.5)),
  maximum: (x, choose) => x.maximum(choose.alike().mul(0.77)),
  where: (x, choose) => cotan.where(choose.alike().lt(0.3137), x, x.mul(-0.5)),
  logic: (x, choose) =>
    x.lt(0.7123).and(choose.alike().lt(-0.1371).not()).cast("f32"),
  integers: (x) =>
    x.mul(1.7).add(0.3137).cast("i32").mul(3).sub(1).cast("f32").mul(0.1),
  sum: full((x, choose) => {
    const axis = choose.axis();
    return x.sum({ axis }).mul(1 / x.shape[axis]!);
  }),
  total: full((x) => x.mean()),
  max: full((x, choose) => x.max({ axis: choose.axis(), keepDims: true })),
  softmax: full((x, choose) => x.softmax({ axis: choose.axis() })),
  logSumExp: full((x, choose) => x.logSumExp({ axis: choose.axis() })),
  variance: full((x, choose) => x.variance({ axis: choose.axis() })),
  flatten: (x) => x.reshape([sizeOf(x.shape)]),
  unsqueeze: (x, choose) => x.unsqueeze(choose.below(x.shape.length + 1)),
  squeeze: (x) => x.squeeze(),
  transpose: (x, choose) => {
    const perm: number[] = [];
    x.shape.forEach((_, i) => perm.splice(choose.below(i + 1), 0, i));
    return x.transpose(perm);
  },
  expand: growing((x, choose) => x.expand([1 + choose.below(3), ...x.shape])),
  slice: (x, choose) =>
    x.slice(x.shape.map((d) => [choose.below(d), d, 1 + choose.below(2)])),
  pad: growing((x, choose) =>
    x.pad(x.shape.map(() => [choose.below(2), choose.below(2)]), {
      value: 0.5,
    })
  ),
  flip: (x, choose) =>
    x.flip(x.shape.flatMap((_, i) => choose.below(2) ? [i] : [])),
  concat: growing(full((x, choose) => {
    const axis = choose.axis();
    const y = choose.value(({ shape }) =>
      shape.length === x.shape.length &&
      shape.every((d, i) => i === axis || d === x.shape[i])
    );
    return cotan.concat([x, y.mul(0.5), x], { axis });
  })),
  take: growing(full((x, choose) => {
    const index = cotan.iota([3]).mul(2).sub(choose.below(3));
    return x.take(index, { axis: choose.axis() });
  })),
  gather: full((x, choose) => {
    const index = x.mul(1.7).add(0.3137).cast("i32");
    return x.gather(index, { axis: choose.axis() });
  }),
  scatter: full((x, choose) => {
    const index = x.abs().mul(1.7).add(0.3137).cast("i32");
    return x.scatterAdd(index, x.sin().mul(0.3), { axis: choose.axis() });
  }),
  tril: (x, choose) =>
    x.shape.length < 2 ? x : x.tril({ k: choose.below(3) - 1 }),
  product: growing(full((x, choose) => {
    const k = x.shape.at(-1)!;
    const fits = (y: Tensor): boolean =>
      y.shape.length === 2 && y.shape[0] === k && y.shape[1]! < 20 ||
      y.shape.length === 1 && y.shape[0] === k;
    const y = choose.value(fits);
    return fits(y) && sizeOf(x.shape) <= 80 ? x.matmul(y).mul(1 / k) : x;
  })),
  gram: growing(full((x, choose) => {
    const [m, n] = x.shape.slice(-2) as [number, number];
    if (x.shape.length < 2 || m > 9 || n > 9) return x;
    const axes = x.shape.map((_, i) => i);
    const y = x.transpose([...axes.slice(0, -2), axes.at(-1)!, axes.at(-2)!]);
    return choose.below(2) ? x.matmul(y).mul(1 / n) : y.matmul(x).mul(1 / m);
  })),
  unpacked: growing(full((x, choose) => {
    const k = x.shape.at(-1)!;
    if (sizeOf(x.shape) > 80 || 16 * k > MOST) return x;
    const words = (...shape: number[]): Tensor =>
      cotan.iota([sizeOf(shape)]).cast("u32").mul(0x9e3779b9).reshape(shape);
    if (choose.below(2)) {
      const bytes = cotan.unpack(words(3, Math.ceil(k / 4))).sub(128);
      return x.matmul(bytes.slice([null, [0, k]]).transpose()).mul(0.01 / k);
    }
    const levels = Array.from({ length: 16 }, (_, i) => i / 8 - 1);
    const s = x.reshape([-1, k]).square().mean({ axis: 0 }).tanh();
    const scale = cotan.concat([s, s.mul(0.5)]).reshape([k, 2, 1]);
    const blocks = cotan.unpack(words(k, 2), levels).reshape([k, 2, 8]);
    const across = cotan.concat(Array.from({ length: 16 }, () =>
      s.mean({
        keepDims: true,
      }))).reshape([8, 2]).transpose();
    const factor = choose.below(2) ? scale : scale.mul(across);
    return x.matmul(blocks.mul(factor).reshape([k, 16])).mul(1 / k);
  })),
  random: (x, choose) => {
    const key = cotan.random.key(choose.below(9));
    return x.add(cotan.random.uniform(key, x.shape));
  },
} satisfies Record<string, Rule>;

const step: fc.Arbitrary<Step> = fc.record({
  name: fc.constantFrom(...Object.keys(rules) as Step["name"][]),
  picks: fc.array(fc.nat(1000), { minLength: 4, maxLength: 4 }),
});

/** Inputs whose axes are some of three sizes, so that they broadcast and multiply. */
const inputs: fc.Arbitrary<Value[]> = fc.tuple(
  fc.array(sizes, { minLength: 3, maxLength: 3 }),
  fc.array(fc.subarray([0, 1, 2]), { minLength: 1, maxLength: 4 }),
  seeds,
).map(([dims, shapes, seed]) =>
  shapes.map((axes) => axes.map((a) => dims[a]!))
    .filter((shape) => sizeOf(shape) <= MOST)
    .map((shape, i) => fill(shape, "f32", seed + i))
).filter((inputs) => inputs.length > 0);

/** Programs of 3 to 15 steps. */
export const programs: fc.Arbitrary<Program> = fc.record({
  inputs,
  steps: fc.array(step, { minLength: 3, maxLength: 15 }),
  outputs: fc.array(fc.nat(20), { maxLength: 3 }),
  donated: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
});

/** What a program does: its results, of which some may be inputs, or one value twice. */
export function build(program: Program, inputs: readonly Tensor[]): Tensor[] {
  const values = [...inputs];
  for (const { name, picks } of program.steps) {
    let next = 0;
    const below = (n: number): number =>
      n === 0 ? 0 : picks[next++ % picks.length]! % n;
    // Later values more often, so that graphs are deep.
    const from = Math.max(0, values.length - 1 - below(4));
    const x = values[from]!;
    const value: Choose["value"] = (fits) => {
      const found = values.filter(fits);
      return found[below(found.length)] ?? x;
    };
    const alike = (): Tensor =>
      value((y) => {
        const both = broadcastShapes(x.shape, y.shape);
        return both !== null && sizeOf(both) <= MOST;
      });
    const axis = (): number => below(x.shape.length);
    const rule: Rule = rules[name];
    values.push(rule(x, { below, value, alike, axis }));
  }
  const extra = program.outputs.map((i) => values[i % values.length]!);
  return [values.at(-1)!, ...extra];
}

/** The same followed by the gradient of the sum of its results by each input. */
export function buildWithGradient(
  program: Program,
  inputs: readonly Tensor[],
): Tensor[] {
  const { value, grads } = cotan.valueAndGrad((inputs: Tensor[]) =>
    build(program, inputs)
      .map((out) => out.sum().mul(1 / Math.max(1, sizeOf(out.shape))))
      .reduce((a, b) => a.add(b))
  )([...inputs]);
  return [value, ...grads];
}
