/**
 * Which layers the configuration of a PEFT adapter takes, and with which rank and scale.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { fail } from "../nn/checkpoint/json.ts";
import type { Patterns, PeftConfig } from "./peft_config.ts";
import { blockOf, fitsPattern } from "./targets.ts";

/** Whether a module is trained whole: it, or one that it is in, ends as PEFT's modules_to_save say. */
export function isSaved(
  { saves }: Pick<PeftConfig, "saves">,
  path: string,
): boolean {
  return saves.some((name) =>
    ancestorsOf(path).some((at) => at.endsWith(name))
  );
}

/** A path and the paths of what it is in. */
export function ancestorsOf(path: string): string[] {
  const segments = path.split(".");
  return segments.map((_, i) => segments.slice(0, i + 1).join("."));
}

/** Whether a layer is a target, by PEFT's rules in their order. */
export function isTarget(
  config: PeftConfig,
  path: string,
  allLinear: readonly string[],
): boolean {
  const { targets, excludes, layers, layersPattern } = config;
  if (takes(config, "exclude_modules", excludes, path)) return false;
  if (isSaved(config, path)) return false;
  if (isAllLinear(targets)) return allLinear.includes(path);
  if (!takes(config, "target_modules", targets, path)) return false;
  // An entry that is the path itself holds whatever the number of the layer.
  const isExact = typeof targets === "string" || targets.includes(path);
  if (layers === null || isExact) return true;
  const block = blockOf(
    path,
    layersPattern,
    compiler(config, "layers_pattern"),
  );
  return block !== undefined && layers.includes(block);
}

/** What takes no layer of a model: an entry of the targets or of modules_to_save, or a pattern that fits no target. */
export function idleEntries(
  config: PeftConfig,
  paths: readonly string[],
  targets: readonly string[],
  optional: readonly string[] = [],
): { key: string; entry: string }[] {
  const { targets: entries, saves, ranks, alphas } = config;
  const idle = (
    key: string,
    all: readonly string[],
    takes: (entry: string) => boolean,
  ) => all.filter((entry) => !takes(entry)).map((entry) => ({ key, entry }));
  return [
    ...idle(
      "target_modules",
      typeof entries === "string" ? [] : entries,
      (entry) => paths.some((path) => endsIn(path, entry)),
    ),
    ...idle(
      "modules_to_save",
      saves.filter((entry) => !optional.includes(entry)),
      (entry) => paths.some((path) => isSaved({ saves: [entry] }, path)),
    ),
    ...[["rank_pattern", ranks] as const, ["alpha_pattern", alphas] as const]
      .flatMap(([key, patterns]) =>
        idle(
          key,
          patterns.map(([pattern]) => pattern),
          (pattern) =>
            targets.some((path) =>
              fitsPattern(path, pattern, compiler(config, key))
            ),
        )
      ),
  ];
}

/** Whether the targets are all linear layers but the head. */
export function isAllLinear(targets: PeftConfig["targets"]): boolean {
  return typeof targets === "string" && /^all-linear$/i.test(targets);
}

/** The rank of a target: that of the first pattern that matches. */
export function rankAt(config: PeftConfig, path: string): number {
  return valueAt(config, "rank_pattern", config.ranks, path) ?? config.rank;
}

/** The scale of a target, alpha / rank or alpha / √rank with the values of its patterns. */
export function scaleAt(config: PeftConfig, path: string): number {
  const alpha = valueAt(config, "alpha_pattern", config.alphas, path) ??
    config.alpha;
  const rank = rankAt(config, path);
  return alpha / (config.rslora ? Math.sqrt(rank) : rank);
}

/** Whether a path is a name, or ends in it after a dot. */
export function endsIn(path: string, name: string): boolean {
  return `.${path}`.endsWith(`.${name}`);
}

function takes(
  config: PeftConfig,
  key: string,
  names: string | readonly string[],
  path: string,
): boolean {
  return typeof names === "string"
    ? compiler(config, key)(names).test(path)
    : names.some((name) => endsIn(path, name));
}

function valueAt(
  config: PeftConfig,
  key: string,
  patterns: Patterns,
  path: string,
): number | undefined {
  const compile = compiler(config, key);
  return patterns.find(([pattern]) => fitsPattern(path, pattern, compile))?.[1];
}

/** Makes regular expressions over whole paths; an error names the key that asks for it. */
function compiler(
  { file }: PeftConfig,
  key: string,
): (source: string) => RegExp {
  return (source) => {
    try {
      return new RegExp(`^(?:${source})$`);
    } catch (cause) {
      return fail(
        file,
        `${key} has ${source}, which is no regular expression here`,
        cause,
      );
    }
  };
}
