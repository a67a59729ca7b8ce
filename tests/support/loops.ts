/**
 * Loops as steps one after another, and a recurrent network to try them on.
 *
 * @module
 */

import {
  random,
  type scan,
  type Scanned,
  type ScanOptions,
  stack,
  type Tensor,
  tree,
  zeros,
} from "cotan";

type Step<C, X, Y> = (carry: C, x: X) => Scanned<C, Y>;

/** What `scan` does, step by step. */
export function unrolled<
  C extends tree.Tree,
  X extends tree.Tree,
  Y extends tree.Tree,
>(
  f: Step<C, X, Y>,
  carry: C,
  xs: X,
  options: ScanOptions = {},
): { carry: C; ys: Y } {
  const length = options.length ?? tree.leaves(xs)[0]!.leaf.shape[0]!;
  const ys: Y[] = [];
  for (let k = 0; k < length; k++) {
    const i = options.reverse ? length - 1 - k : k;
    const x = tree.map((x) => x.slice([[i, i + 1]]).squeeze(0), xs);
    const next = f(carry, x);
    carry = next.carry;
    ys[i] = next.y;
  }
  const [first, ...rest] = ys;
  return {
    carry,
    ys: tree.map((...leaves) => stack(leaves), first!, ...rest) as Y,
  };
}

/** A recurrent network: h' = tanh(h W + x V + b). */
export interface Rnn {
  readonly [name: string]: Tensor;
  /** [hidden, hidden] */
  readonly w: Tensor;
  /** [inputs, hidden] */
  readonly v: Tensor;
  /** [hidden] */
  readonly b: Tensor;
}

/** Its parameters. */
export function rnnOf(hidden: number, inputs: number): Rnn {
  const [w, v, b] = random.split(random.key(3), 3) as [Tensor, Tensor, Tensor];
  return {
    w: random.normal(w, [hidden, hidden]).mul(0.4),
    v: random.normal(v, [inputs, hidden]).mul(0.4),
    b: random.normal(b, [hidden]).mul(0.4),
  };
}

/** A loss of it over xs [T, B, C], with a loop of one kind or the other. */
export const rnnLoss =
  (loop: typeof scan, options: ScanOptions = {}) => (p: Rnn, xs: Tensor) => {
    const step = (h: Tensor, x: Tensor) => {
      const next = h.matmul(p.w).add(x.matmul(p.v)).add(p.b).tanh();
      return { carry: next, y: next.mul(h) };
    };
    const h = zeros([xs.shape[1]!, p.w.shape[0]!]);
    const { carry, ys } = loop(step, h, xs, options);
    return carry.square().sum().add(ys.sin().sum());
  };
