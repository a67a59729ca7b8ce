/**
 * A system's BLAS by Deno's foreign functions: `cblas_sgemm` on matrices in a WebAssembly memory, without a copy.
 *
 * This module is browser compatible.
 *
 * @module
 */

/**
 * `C = A · B` in a WebAssembly memory, or `C += A · B` where it adds: whether an operand is stored by its columns, sizes [m, k] and [k, n], and of each
 * matrix, C by its rows, the address, which is a bigint where that has 64 bits, and the distance of its rows or columns
 * in elements.
 */
export type Sgemm = (
  aByColumns: number,
  bByColumns: number,
  m: number,
  n: number,
  k: number,
  a: number | bigint,
  aLeading: number,
  b: number | bigint,
  bLeading: number,
  c: number | bigint,
  cLeading: number,
  adds: number,
) => void;

/** An open library. */
export interface Blas {
  /** Its path or name, as the system's loader takes it. */
  readonly path: string;
  /** Multiplies. */
  readonly sgemm: Sgemm;
  /** Whether it lets itself be told on how many threads to compute, as all but the slow reference library do. */
  readonly isKnown: boolean;
  /** Closes it. */
  close(): void;
}

/** What is used of Deno, named here as browsers have none of it. */
interface Foreign {
  readonly build: { readonly os: string };
  readonly dlopen?: (
    path: string,
    symbols: Readonly<Record<string, object>>,
  ) => {
    readonly symbols: Readonly<
      Record<string, ((...args: (number | bigint)[]) => void) | null>
    >;
    close(): void;
  };
  readonly UnsafePointer: {
    of(view: Uint8Array): unknown;
    value(pointer: unknown): bigint;
  };
}

/** Names to look for; the last may be any library, the slow reference too. */
const UNIX_NAMES = [
  "libopenblas.so.0",
  "libopenblas.so",
  "libmkl_rt.so.2",
  "libmkl_rt.so",
  "libblas.so.3",
];

/** Those of other systems. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  darwin: ["/System/Library/Frameworks/Accelerate.framework/Accelerate"],
  windows: ["libopenblas.dll", "mkl_rt.2.dll"],
};

/** The library at a path, or with "auto" the first of the known ones; why not, where there is none. */
export function openBlas(
  wanted: string,
  memory: WebAssembly.Memory,
): Blas | { readonly refusal: string } {
  const { Deno } = globalThis as { Deno?: Foreign };
  if (!Deno?.dlopen) return { refusal: "only Deno can open a BLAS" };
  const { os } = Deno.build;
  const isAny = wanted === "auto";
  const names = isAny ? NAMES[os] ?? UNIX_NAMES : [wanted];
  for (const name of names) {
    try {
      const blas = openLibrary(name, memory);
      if (!isAny || blas.isKnown || os === "darwin") return blas;
      blas.close();
    } catch (error) {
      const { name: kind, message } = error as Error;
      if (isAny && kind !== "NotCapable") continue;
      const why = message.replaceAll("\n", " ");
      return { refusal: `the BLAS ${name} cannot be opened: ${why}` };
    }
  }
  return { refusal: `there is no BLAS; looked for ${names.join(", ")}` };
}

/** Opens a library, which then computes on the thread that calls it alone. Workers get it as text: it uses nothing outside of it. */
export function openLibrary(path: string, memory: WebAssembly.Memory): Blas {
  const { dlopen, UnsafePointer } =
    (globalThis as unknown as { Deno: Foreign }).Deno;
  const setter = { parameters: ["i32"], result: "void", optional: true };
  // deno-fmt-ignore
  const parameters = [
    "i32", "i32", "i32", "i32", "i32", "i32",
    "f32", "usize", "i32", "usize", "i32", "f32", "usize", "i32",
  ];
  const library = dlopen!(path, {
    cblas_sgemm: { parameters, result: "void" },
    openblas_set_num_threads: setter,
    MKL_Set_Num_Threads: setter,
  });
  const { cblas_sgemm, openblas_set_num_threads, MKL_Set_Num_Threads } =
    library.symbols;
  const setThreads = openblas_set_num_threads ?? MKL_Set_Num_Threads;
  setThreads?.(1);
  let buffer: ArrayBufferLike | null = null, base = 0;
  // Addresses have less than 53 bits; big integers are what calls take without a detour.
  const place = (address: number | bigint): bigint =>
    typeof address === "bigint"
      ? BigInt(base) + address
      : BigInt(base + (address >>> 0));
  const sgemm: Sgemm = (ta, tb, m, n, k, a, lda, b, ldb, c, ldc, adds) => {
    if (memory.buffer !== buffer) {
      // It grew, and may have moved.
      buffer = memory.buffer;
      base = Number(UnsafePointer.value(UnsafePointer.of(
        new Uint8Array(buffer as ArrayBuffer, 0, 1),
      )));
    }
    // By rows is 101, and of the operands plain is 111 and transposed 112.
    // deno-fmt-ignore
    cblas_sgemm!(101, 111 + ta, 111 + tb, m, n, k, 1, place(a), lda, place(b), ldb, adds, place(c), ldc);
  };
  const close = (): void => library.close();
  return { path, sgemm, isKnown: Boolean(setThreads), close };
}
