import type { Metric } from '../benchmark/types.js';
import type { Interval } from './statistics.js';

/** Stands where there is no number: out of memory, failed, not run. As in the seed toolkit's tables. */
export const NONE = '-';

/** Two decimals of a percent score, as RULER and the seed toolkit print it; four of nats. */
export function formatScore(score: number | null, unit: Metric['unit'] = 'percent'): string {
  return score === null ? NONE : score.toFixed(unit === 'nats' ? 4 : 2);
}

/** `88.9–97.7`; undefined without an interval. */
export function formatInterval(
  interval: Interval | null,
  unit: Metric['unit'] = 'percent',
): string | undefined {
  if (interval === null) return undefined;
  const [low, high] = interval.map((end) => end.toFixed(unit === 'nats' ? 3 : 1));
  return `${low ?? ''}–${high ?? ''}`;
}

/** A difference with its sign: `+1.25`, `−0.50`. */
export function formatDifference(value: number, unit: Metric['unit'] = 'percent'): string {
  const digits = Math.abs(value).toFixed(unit === 'nats' ? 4 : 2);
  if (Number(digits) === 0) return digits;
  return `${value < 0 ? '−' : '+'}${digits}`;
}

/** `0.034`, `<0.001`. */
export function formatP(p: number): string {
  return p < 0.001 ? '<0.001' : p.toFixed(3);
}

/** Bytes with a binary unit: `8.0 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? String(Math.round(value)) : value.toFixed(1)} ${units[unit] ?? ''}`;
}

/** Tokens as tables head them: `4096` is `4K`, `1000` stays `1000`; `any` where samples have lengths of their own. */
export function formatLength(tokens: number | null): string {
  if (tokens === null) return 'any';
  return tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}K` : String(tokens);
}

/** `1:29:58`, as the seed toolkit prints its reasoning times. */
export function formatClock(seconds: number): string {
  const total = Math.round(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${Math.floor(total / 3600)}:${two(Math.floor(total / 60) % 60)}:${two(total % 60)}`;
}

/** A figure that may be missing. */
export function formatOr<T>(value: T | null | undefined, format: (value: T) => string): string {
  return value === null || value === undefined ? NONE : format(value);
}
