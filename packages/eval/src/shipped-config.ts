import { fileURLToPath } from 'node:url';

/** Configs that ship with this package: of each benchmark, and two that fit the embedded model (`needle…`). */
export type ShippedConfig =
  'ruler' | 'loom' | 'needle' | 'longbench' | 'niah' | 'niah-needle' | 'nll';

/** The path of a shipped config: `loom` is the seed toolkit's run, the others say in comments what they are for. */
export function shippedConfig(name: ShippedConfig): string {
  // As far from the package's folder in the sources as in the build, which is why this file lies here.
  return fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));
}
