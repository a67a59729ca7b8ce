/**
 * What workloads compute on: values that are hashes of their place, so that every peer has the same bits.
 *
 * Letters: B batch, T time, V vocabulary, C channels, H heads, F channels inside a feed-forward layer, L layers, R rank.
 *
 * @module
 */

/** Sizes of a GPT and its batch. */
export interface Sizes {
  readonly V: number;
  readonly T: number;
  readonly C: number;
  readonly L: number;
  readonly H: number;
  readonly F: number;
  readonly B: number;
}

/** The GPT of W4, and the shape of GPT-2 small. */
export const SIZES = {
  small: { V: 512, T: 128, C: 128, L: 4, H: 4, F: 512, B: 8 },
  gpt2: { V: 50257, T: 64, C: 768, L: 12, H: 12, F: 3072, B: 1 },
} as const satisfies Record<string, Sizes>;

/** The block of W3. */
export const BLOCK = { B: 4, T: 128, C: 256, H: 8, F: 1024 } as const;

/** Rank and alpha of W5, and of AdamW everywhere what is not its default: the rate. */
export const RANK = 8, ALPHA = 16, RATE = 1e-3;

/** Tokens of the prompt and of the answer in W6. */
export const PROMPT = 16, ANSWER = 24;

/** Bound of uniform weights whose deviation is 0.02. */
const BOUND = 0.02 * Math.sqrt(3);

function hash(i: number, seed: number): number {
  let x = Math.imul(i, 2654435761) + Math.imul(seed, 2246822519) + 374761393;
  x ^= x >>> 15;
  x = Math.imul(x, 2246822519);
  x ^= x >>> 13;
  x = Math.imul(x, 3266489917);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Values from -bound to bound. */
export function uniform(n: number, seed: number, bound: number): Float32Array {
  const values = new Float32Array(n);
  // A loop, since GPT-2 small takes 124 million.
  for (let i = 0; i < n; i++) {
    values[i] = (hash(i, seed) / 2 ** 32 - 0.5) * 2 * bound;
  }
  return values;
}

/** Ids below V. */
export function tokenIds(n: number, V: number, seed: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => hash(i, seed) % V);
}

/** The prompt of W6. */
export function prompt(): Int32Array {
  return tokenIds(PROMPT, SIZES.gpt2.V, 9);
}

/** B rows of T ids, one after another, and the id that follows each. */
export function batch({ B, T, V }: Sizes): { x: Int32Array; y: Int32Array } {
  const ids = tokenIds(B * (T + 1), V, 7);
  const from = (first: number): Int32Array =>
    Int32Array.from(
      { length: B * T },
      (_, i) => ids[Math.floor(i / T) * (T + 1) + i % T + first]!,
    );
  return { x: from(0), y: from(1) };
}

/** A tensor that starts a workload; values are drawn when they are asked for. */
export interface Initial {
  readonly shape: readonly number[];
  values(): Float32Array;
}

/** Tensors by name. */
export type Initials = Readonly<Record<string, Initial>>;

type Named = readonly [name: string, shape: readonly number[]];

/** Parameters of a GPT: `wte`, `wpe`, those of blocks such as `h0.wq`, `lnfg` and `lnfb`. Weights are [in, out]. */
export function gptInitials(
  { V, T, C, F, L }: Pick<Sizes, "V" | "T" | "C" | "F" | "L">,
): Initials {
  const linear = (name: string, from: number, to: number): Named[] => [
    [`w${name}`, [from, to]],
    [`b${name}`, [to]],
  ];
  const norm = (name: string): Named[] => [
    [`ln${name}g`, [C]],
    [`ln${name}b`, [C]],
  ];
  const block = [
    ...norm("1"),
    ...[..."qkvo"].flatMap((name) => linear(name, C, C)),
    ...norm("2"),
    ...linear("1", C, F),
    ...linear("2", F, C),
  ];
  const names: Named[] = [
    ["wte", [V, C]],
    ["wpe", [T, C]],
    ...Array.from(
      { length: L },
      (_, l) => block.map(([name, shape]): Named => [`h${l}.${name}`, shape]),
    ).flat(),
    ...norm("f"),
  ];
  return Object.fromEntries(names.map(([name, shape], i) => {
    const size = shape.reduce((a, b) => a * b);
    const values = (): Float32Array =>
      shape.length === 2
        ? uniform(size, 100 + i, BOUND)
        : new Float32Array(size).fill(name.endsWith("g") ? 1 : 0);
    return [name, { shape, values }];
  }));
}

/** Adapters of queries and values: `h0.aq` [C, R], `h0.bbq` [R, C], `h0.av`, `h0.bbv` and so on. */
export function adapterInitials({ C, L }: Pick<Sizes, "C" | "L">): Initials {
  const layers = Array.from({ length: L }, (_, l) => l);
  return Object.fromEntries(
    layers.flatMap((l) =>
      [..."qv"].flatMap((n, i): [string, Initial][] => {
        const values = (): Float32Array =>
          uniform(C * RANK, 5000 + 4 * l + 2 * i, C ** -0.5);
        const none = (): Float32Array => new Float32Array(RANK * C);
        return [
          [`h${l}.a${n}`, { shape: [C, RANK], values }],
          [`h${l}.bb${n}`, { shape: [RANK, C], values: none }],
        ];
      })
    ),
  );
}

/** What is checked of a tensor: its first and its last element, and the root of the mean square. */
export function summary(values: ArrayLike<number>): number[] {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! ** 2;
  const { length: n } = values;
  return [values[0]!, values[n - 1]!, Math.sqrt(squares / n)];
}
