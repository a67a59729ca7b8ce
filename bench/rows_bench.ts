/**
 * Functions of rows on each backend: softmax, layer norm and their gradients.
 *
 * A name tells what one run reads and writes at least; over the time that is the bandwidth. A run computes several
 * times and then reads one result back, so that what this takes counts little.
 *
 * @module
 */

import { grad, jit, ones, random, type Tensor, zeros } from "cotan";
import { layerNorm } from "cotan/nn";
import { availableBackends, benchOn, settle } from "./backends.ts";

/** Results of one run. */
const REPEATS = 8;

/** A function of a matrix and of the cotangent of its result, and how many matrices it reads and writes. */
interface Case {
  readonly name: string;
  readonly matrices: number;
  readonly f: (x: Tensor, ct: Tensor) => Tensor[];
}

const softmax = (x: Tensor) => x.softmax({ axis: -1 });

type Arguments = {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor;
};

const norm = (p: Arguments) => layerNorm(p, p.x);

function argumentsOf(x: Tensor): Arguments {
  const size = [x.shape.at(-1)!];
  return { x, weight: ones(size), bias: zeros(size) };
}

const cases: readonly (readonly [number, number, readonly Case[]])[] = [
  [4096, 512, [
    { name: "softmax", matrices: 2, f: (x) => [softmax(x)] },
    {
      name: "softmax gradient",
      matrices: 3,
      f: (x, ct) => [grad((x) => softmax(x).mul(ct).sum())(x)],
    },
  ]],
  [4096, 768, [
    { name: "layer norm", matrices: 2, f: (x) => [norm(argumentsOf(x))] },
    {
      name: "layer norm gradient",
      matrices: 3,
      f: (x, ct) => {
        const loss = (p: Arguments) => norm(p).mul(ct).sum();
        const { weight, bias, x: dx } = grad(loss)(argumentsOf(x));
        return [weight, bias, dx];
      },
    },
  ]],
];

const backends = await availableBackends();
for (const [rows, columns, functions] of cases) {
  for (const { name, matrices, f } of functions) {
    const bytes = 4 * rows * columns * matrices * REPEATS;
    const label = `${rows} rows of ${columns}, ${bytes / 2 ** 20} MiB a run`;
    for (const backend of backends) {
      benchOn(backend, name, label, () => {
        const x = random.normal(random.key(0), [rows, columns]);
        const ct = random.normal(random.key(1), [rows, columns]);
        const compute = jit(f);
        return Promise.resolve(async () => {
          for (let i = 0; i < REPEATS; i++) {
            const [first, ...others] = compute(x, ct);
            for (const other of others) other.dispose();
            if (i < REPEATS - 1) first!.dispose();
            else await settle(first!);
          }
        });
      });
    }
  }
}
