import type { MemoryTarget } from '@accel/core';
import { devices } from '@accel/kernels';
import { UsageError } from '../errors.js';
import { formatBytes } from '../format.js';

/** Where a model is to run, and how much memory there is. */
export interface Card {
  /** As tables print it. */
  readonly name: string;
  readonly bytes: number;
  readonly target: MemoryTarget;
}

interface KnownCard {
  /** What `--card` calls it. */
  readonly id: string;
  readonly name: string;
  /** As nvidia-smi reports it. */
  readonly mebibytes: number;
  readonly isa: string;
  readonly multiprocessors: number;
}

const known: readonly KnownCard[] = [
  { id: 'h200', name: 'H200', mebibytes: 143771, isa: 'sm_90', multiprocessors: 132 },
  { id: 'h100', name: 'H100 80GB', mebibytes: 81559, isa: 'sm_90', multiprocessors: 132 },
  { id: 'a100-80', name: 'A100 80GB', mebibytes: 81920, isa: 'sm_80', multiprocessors: 108 },
  { id: 'a100-40', name: 'A100 40GB', mebibytes: 40960, isa: 'sm_80', multiprocessors: 108 },
  { id: 'l40s', name: 'L40S', mebibytes: 46068, isa: 'sm_89', multiprocessors: 142 },
  { id: '4090', name: 'RTX 4090', mebibytes: 24564, isa: 'sm_89', multiprocessors: 128 },
  { id: '3090', name: 'RTX 3090', mebibytes: 24576, isa: 'sm_86', multiprocessors: 82 },
];

/** Names that `--card` takes. */
export const cardNames: readonly string[] = known.map(({ id }) => id);

const units: Readonly<Record<string, number>> = {
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/**
 * Reads `--card`: a card by name, `cpu`, or memory of a GPU, such as `24GiB`.
 * @throws UsageError
 */
export function parseCard(text: string): Card {
  const word = text.toLowerCase().replaceAll('_', '-');
  if (word === 'cpu') return hostCard();
  const card = known.find(({ id }) => id === word);
  if (card !== undefined) {
    const { name, mebibytes, isa, multiprocessors } = card;
    return { name, bytes: mebibytes * 2 ** 20, target: { kind: 'cuda', isa, multiprocessors } };
  }
  const match = /^(\d+(?:\.\d+)?) ?([kmgt]i?b)$/.exec(word);
  const bytes = Math.floor(Number(match?.[1]) * (units[match?.[2] ?? ''] ?? NaN));
  if (bytes > 0) {
    return { name: `a GPU with ${formatBytes(bytes)}`, bytes, target: { kind: 'cuda' } };
  }
  throw new UsageError(
    `--card takes ${cardNames.join(', ')}, cpu or memory such as 24GiB, not "${text}".`,
  );
}

/** The first GPU of this machine, or its memory when there is none. */
export function presentCard(): Card {
  const gpu = devices().find(({ kind }) => kind === 'cuda');
  if (gpu === undefined) return hostCard();
  const { name, isa, threads, memory } = gpu;
  return { name, bytes: memory.total, target: { kind: 'cuda', isa, multiprocessors: threads } };
}

function hostCard(): Card {
  const host = devices().find(({ kind }) => kind === 'cpu');
  return { name: 'this machine (CPU)', bytes: host?.memory.total ?? 0, target: { kind: 'cpu' } };
}
