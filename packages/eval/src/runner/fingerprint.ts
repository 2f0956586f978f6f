import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Model, Policy } from '@accel/core';
import { fileError, messageOf } from '../errors.js';
import type { RulerSources } from '../ruler/types.js';
import type { Plan } from './plan.js';

/** What decides a record's result, except its method: two runs with equal settings give equal records. */
export interface RunSettings {
  readonly benchmark: 'RULER';
  readonly model: string;
  /** Digest of the model's files. */
  readonly modelFiles: string;
  readonly device: string;
  readonly dtype: string;
  readonly seed: number;
  readonly template: string;
  readonly noTemplateTasks: 'all' | readonly string[];
  readonly tokensToGenerate: string;
  readonly workedExample: boolean;
  /** Digest of words, essay and splitter. */
  readonly sources: string;
}

/** Collects the settings of a run. */
export async function runSettings(
  model: Model,
  plan: Plan,
  sources: RulerSources,
): Promise<RunSettings> {
  return {
    benchmark: 'RULER',
    model: model.spec.name,
    modelFiles: await modelFingerprint(model.path),
    device: model.device.info.id,
    dtype: model.dtype,
    seed: plan.seed,
    template: plan.template,
    noTemplateTasks: plan.noTemplateTasks,
    tokensToGenerate: plan.tokensToGenerate,
    workedExample: plan.workedExample,
    sources: sources.fingerprint,
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
