import { createRequire } from 'node:module';
import { cpus, hostname, totalmem } from 'node:os';
import type { Hardware } from './run-file.js';

/** The machine this process runs on. @param devices id and name of each device in use */
export function hardware(devices: readonly string[]): Hardware {
  const list = cpus();
  return {
    host: hostname(),
    platform: `${process.platform}-${process.arch}`,
    cpu: list[0]?.model ?? 'unknown',
    cores: list.length,
    memoryBytes: totalmem(),
    devices,
  };
}

/** Versions of what makes the numbers. */
export function versions(): Record<string, string> {
  const require = createRequire(import.meta.url);
  const version = (name: string): string =>
    (require(`${name}/package.json`) as { version: string }).version;
  return {
    '@accel/eval': version('@accel/eval'),
    '@accel/core': version('@accel/core'),
    node: process.versions.node,
  };
}
