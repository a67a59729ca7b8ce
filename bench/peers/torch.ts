/**
 * How PyTorch's process is started, at its best.
 *
 * @module
 */

import type { Command } from "./contestant.ts";

/** The Python of the path may be one without what the system's packages install. */
const PYTHONS = ["python3", "/usr/bin/python3"];

/** The command of `script`, with the first Python that has PyTorch, on so many threads. */
export function torchCommand(script: string, threads: string): Command {
  return {
    program: PYTHONS.find(hasTorch) ?? PYTHONS[0]!,
    before: [script],
    behind: [threads],
    // What Debian's build needs: OpenMP's OpenBLAS, vectors as wide as there are, no pages given back at each step.
    env: {
      LD_LIBRARY_PATH: "/usr/lib/x86_64-linux-gnu/openblas-openmp",
      MALLOC_MMAP_MAX_: "0",
      MALLOC_TRIM_THRESHOLD_: "100000000000",
      OMP_NUM_THREADS: threads,
      ...hasAvx512() ? { ATEN_CPU_CAPABILITY: "avx512" } : {},
    },
  };
}

function hasTorch(python: string): boolean {
  try {
    const args = ["-c", "import torch"];
    const stderr = "null";
    return new Deno.Command(python, { args, stderr }).outputSync().success;
  } catch {
    return false;
  }
}

function hasAvx512(): boolean {
  try {
    return Deno.readTextFileSync("/proc/cpuinfo").includes("avx512f");
  } catch {
    return false;
  }
}
