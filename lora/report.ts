/**
 * What adapters a model has: which layers, at which rank and scale, how many parameters, and what is likely a mistake.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tree, tree as trees } from "../core/mod.ts";
import { type Lora, partsOf, savedIn } from "../nn/adapter_forms.ts";
import { isQuantized } from "../nn/quantized.ts";
import { layersOf } from "./layers.ts";
import { type AdaptedLayer, adaptedLayers, byName } from "./loras.ts";
import { dropAdapters } from "./named.ts";
import { alphasOf } from "./peft_write.ts";
import type { Report, ReportRow } from "./report_form.ts";
import { table } from "./report_table.ts";
import { warningsOf } from "./report_warnings.ts";

/**
 * Reports on the adapters of a model. The scales are read back from the backend, hence the promise.
 *
 * Throws `TreeError` where there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, zeros } from "cotan";
 * import { lora, report } from "cotan/lora";
 *
 * const params = { q_proj: { weight: zeros([64, 64]), bias: null } };
 * const key = random.key(0);
 * const tuned = lora(params, { targets: "q_proj", rank: 4, alpha: 8, key });
 * assertEquals(
 *   String(await report(tuned)),
 *   `target  layers  weight    rank  alpha  scale  parameters  of the model
 * q_proj       1  [64, 64]     4      8      2         512       12.50 %
 * total        1                                       512       12.50 %
 * memory: weights 2.05 kB, gradients 2.05 kB, Adam's moments 4.1 kB`,
 * );
 * ```
 */
export async function report(tuned: Tree): Promise<Report> {
  const layers = adaptedLayers(tuned, "report on adapters");
  const entries = (await Promise.all(layers.map(entriesOf))).flat();
  const modelParameters = trees.count(dropAdapters(tuned)) +
    sum(
      layersOf(tuned).map(({ weight, shape }) =>
        isQuantized(weight)
          ? shape.reduce((n, d) => n * d, 1) - trees.count(weight)
          : 0
      ),
    );
  const percentOf = (count: number) => 100 * count / modelParameters;
  const scaled = entries.flatMap(({ rank, scale }) =>
    rank !== null && scale !== null ? [{ rank, scale }] : []
  );
  const { alphas, rslora } = alphasOf(scaled);
  const alphaOf = (rank: number | null, scale: number | null) =>
    alphas[
      scaled.findIndex((one) => one.rank === rank && one.scale === scale)
    ] ??
      null;
  const groups = Map.groupBy(
    entries,
    ({ path: _, parameters: _count, ...kind }) => JSON.stringify(kind),
  );
  const rows = [...groups.values()].map((members): ReportRow => {
    const { path: _, ...kind } = members[0]!;
    const parameters = sum(members.map(({ parameters }) => parameters));
    return {
      ...kind,
      layers: members.length,
      paths: members.map(({ path }) => path),
      alpha: alphaOf(kind.rank, kind.scale),
      parameters,
      percent: percentOf(parameters),
    };
  });
  const parameters = sum(rows.map(({ parameters }) => parameters));
  const found = {
    rows,
    layers: layers.length,
    parameters,
    modelParameters,
    percent: percentOf(parameters),
    rslora,
    bytes: {
      weights: 4 * parameters,
      gradients: 4 * parameters,
      moments: 8 * parameters,
    },
    warnings: warningsOf(rows, layersOf(tuned)),
  };
  const toString = () => table(found);
  // So that console.log shows the table too.
  const inspect = { [Symbol.for("Deno.customInspect")]: toString };
  return { ...found, toString, ...inspect };
}

/** What a layer has of one kind. */
type Entry =
  & Pick<
    ReportRow,
    "target" | "name" | "slices" | "weight" | "rank" | "scale" | "parameters"
  >
  & { readonly path: string };

async function entriesOf(
  { path, shape, lora }: AdaptedLayer,
): Promise<Entry[]> {
  const found: Entry[] = [];
  const target = lastName(path);
  for (const [name, adapter] of byName(lora)) {
    const parts = partsOf(adapter);
    const some = parts.filter((part) => part !== null);
    if (some.length > 0) {
      const at = [...parts.keys()].filter((i) => parts[i] !== null);
      found.push({
        path,
        target,
        name,
        slices: parts.length > 1 ? { of: parts.length, at } : null,
        weight: shape,
        rank: some[0]!.a.shape.at(-2)!,
        scale: await scaleOf(some[0]!),
        parameters: sum(
          some.map(({ a, b, magnitude }) => trees.count([a, b, magnitude])),
        ),
      });
    }
    const { weight: copy, bias } = savedIn(adapter);
    for (const [key, tensor] of Object.entries({ weight: copy, bias })) {
      if (!tensor) continue;
      found.push({
        path,
        target: `${target}.${key}`,
        name,
        slices: null,
        weight: tensor.shape,
        rank: null,
        scale: null,
        parameters: trees.count(tensor),
      });
    }
  }
  return found;
}

async function scaleOf({ scale }: Lora): Promise<number | null> {
  const [first, ...rest] = await scale.data();
  return rest.every((other) => other === first) ? first! : null;
}

/** The last name of a path that is no number: that of the list where the last is one. */
function lastName(path: string): string {
  return path.split(".").findLast((name) => !/^\d+$/.test(name)) ?? path;
}

function sum(counts: readonly number[]): number {
  return counts.reduce((a, b) => a + b, 0);
}
