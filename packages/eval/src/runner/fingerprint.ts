import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Policy } from '@accel/core';
import type { Benchmark } from '../benchmark/types.js';
import type { BenchmarkConfig } from '../config/types.js';
import { fileError, messageOf } from '../errors.js';
import type { Subject } from './subject.js';

/**
 * What decides a record's result, except its method: two runs with equal settings give equal records. Which tasks,
 * lengths, modes and how many samples is not in it, so that a run can be extended.
 */
export interface RunSettings {
  readonly benchmark: BenchmarkConfig['benchmark'];
  readonly model: string;
  /** Digest of the model's files. */
  readonly modelFiles: string;
  readonly device: string;
  readonly dtype: string;
  /** Null: the model's window. */
  readonly maxLength: number | null;
  /** Digest of the texts and data that prompts are made of. */
  readonly sources: string;
  /** What else the config says: seed, template, limits, needle. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** Fields of a config that choose among records without changing them; paths are represented by `sources`. */
const CHOICES = new Set(['benchmark', 'tasks', 'lengths', 'samples', 'modes']);

/** Collects the settings of a run. */
export function runSettings(
  subject: Subject,
  config: BenchmarkConfig,
  benchmark: Benchmark,
  maxLength: number | undefined,
): RunSettings {
  const rest = Object.entries(config).filter(([key]) => !CHOICES.has(key) && !key.endsWith('Path'));
  return {
    benchmark: benchmark.name,
    model: subject.spec.name,
    modelFiles: subject.files,
    device: subject.device,
    dtype: subject.dtype,
    maxLength: maxLength ?? null,
    sources: benchmark.fingerprint,
    config: Object.fromEntries(rest),
  };
}

/** Digest of a policy: its parts with their options, whatever the order they were composed in. */
export function policyFingerprint(policy: Policy): string {
  const parts = policy.parts.map(({ id, slot, options }) => canonical({ id, slot, options }));
  return digest(parts.sort().join('\n'));
}

/** Files that define a model, by suffix. */
const MODEL_FILE = /\.(json|safetensors|gguf|jinja)$/;
const PROBE_BYTES = 1 << 16;

/** Digest of a model's files: names, sizes, and the first and last 64 KiB of each; reading all of it would take minutes. */
export async function modelFingerprint(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    const isFolder = (await stat(path)).isDirectory();
    const folder = isFolder ? path : dirname(path);
    const names = isFolder
      ? (await readdir(path)).filter((name) => MODEL_FILE.test(name)).sort()
      : [basename(path)];
    for (const name of names) {
      hash.update(`${name}\0`);
      await hashEnds(join(folder, name), hash);
    }
  } catch (error) {
    throw fileError(
      `Cannot read the model files in ${path} for the run's fingerprint: ${messageOf(error)}.`,
      error,
    );
  }
  return hash.digest('hex').slice(0, 16);
}

async function hashEnds(path: string, hash: Hash): Promise<void> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    hash.update(`${size}\0`);
    for (const start of [0, Math.max(0, size - PROBE_BYTES)]) {
      const { buffer, bytesRead } = await file.read(
        Buffer.alloc(PROBE_BYTES),
        0,
        PROBE_BYTES,
        start,
      );
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

/** JSON with sorted keys, so that the same options in another order have the same digest. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
