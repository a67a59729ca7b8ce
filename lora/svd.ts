/**
 * The singular value decomposition of a product of thin matrices, on the host in float64.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Columns of a matrix. */
export type Columns = readonly Float64Array[];

/** The largest singular values of a matrix, with their vectors. */
export interface Svd {
  /** Left vectors. */
  readonly u: Columns;
  /** Values, largest first. */
  readonly s: readonly number[];
  /** Right vectors. */
  readonly v: Columns;
}

/** Rotations that are smaller than this change nothing. */
const EPSILON = 1e-15;

/** Rounds over all pairs of columns; quadratic convergence needs some ten. */
const SWEEPS = 60;

/** All singular values of Σ bᵢ aᵢᵀ, for as many columns b [out] as a [in]. */
export function svdOfProduct(b: Columns, a: Columns): Svd {
  const left = qr(b), right = qr(a);
  // The core R_b R_aᵀ has a side of the number of columns.
  const core = right.r.map((other) =>
    Float64Array.from(left.r, (row) => dot(row, other))
  );
  const { u, s, v } = jacobi(core);
  return {
    u: u.map((column) => combine(left.q, column)),
    s,
    v: v.map((column) => combine(right.q, column)),
  };
}

/** Orthonormal columns q and the rows of r with columns = q r; a column that depends on earlier ones gives q of zeros. */
function qr(columns: Columns): { q: Columns; r: readonly Float64Array[] } {
  const q: Float64Array[] = [];
  const r = columns.map(() => new Float64Array(columns.length));
  columns.forEach((column, j) => {
    const rest = column.slice();
    const size = norm(column);
    // Twice, for what rounding leaves.
    for (let again = 0; again < 2; again++) {
      q.forEach((other, i) => {
        const along = dot(other, rest);
        r[i]![j]! += along;
        other.forEach((x, k) => rest[k]! -= along * x);
      });
    }
    const length = norm(rest);
    const isNew = length > EPSILON * size;
    r[j]![j] = isNew ? length : 0;
    q.push(rest.map((x) => isNew ? x / length : 0));
  });
  return { q, r };
}

/** One-sided Jacobi (Hestenes 1958): rotates pairs of columns until all are orthogonal. */
function jacobi(columns: Columns): Svd {
  const n = columns.length;
  const w = columns.map((column) => column.slice());
  const v = columns.map((_, j) =>
    Float64Array.from({ length: n }, (_, i) => i === j ? 1 : 0)
  );
  for (let sweep = 0, rotated = true; rotated && sweep < SWEEPS; sweep++) {
    rotated = false;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const [x, y] = [w[p]!, w[q]!];
        const [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)];
        if (Math.abs(xy) <= EPSILON * Math.sqrt(xx * yy)) continue;
        rotated = true;
        const zeta = (yy - xx) / (2 * xy);
        const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cosine = 1 / Math.hypot(1, t), sine = cosine * t;
        rotate(x, y, cosine, sine);
        rotate(v[p]!, v[q]!, cosine, sine);
      }
    }
  }
  const s = w.map(norm);
  const order = [...s.keys()].sort((i, j) => s[j]! - s[i]!);
  return {
    u: order.map((i) => w[i]!.map((x) => s[i] === 0 ? 0 : x / s[i]!)),
    s: order.map((i) => s[i]!),
    v: order.map((i) => v[i]!),
  };
}

function rotate(
  x: Float64Array,
  y: Float64Array,
  cosine: number,
  sine: number,
): void {
  x.forEach((value, i) => {
    x[i] = cosine * value - sine * y[i]!;
    y[i] = sine * value + cosine * y[i]!;
  });
}

/** The sum of columns, each a number of times. */
function combine(columns: Columns, times: Float64Array): Float64Array {
  const sum = new Float64Array(columns[0]!.length);
  columns.forEach((column, j) =>
    column.forEach((x, i) => sum[i]! += times[j]! * x)
  );
  return sum;
}

function dot(x: Float64Array, y: Float64Array): number {
  return x.reduce((sum, value, i) => sum + value * y[i]!, 0);
}

function norm(x: Float64Array): number {
  return Math.sqrt(dot(x, x));
}
