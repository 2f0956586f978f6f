import { UsageError } from './errors.js';

/** Number formats a model can be loaded in; `auto` is what its weights are stored in. */
export type DtypeName = 'auto' | 'float32' | 'bfloat16' | 'float16';

const dtypes: Readonly<Record<string, DtypeName>> = {
  auto: 'auto',
  float32: 'float32',
  float: 'float32',
  fp32: 'float32',
  bfloat16: 'bfloat16',
  bf16: 'bfloat16',
  float16: 'float16',
  half: 'float16',
  fp16: 'float16',
};

/**
 * Reads a number format: `float32`, `bfloat16`, `float16`, `auto`, their usual short forms, each with or
 * without `torch.` in front.
 */
export function parseDtype(text: string): DtypeName {
  const dtype = dtypes[text.toLowerCase().replace(/^torch\./, '')];
  if (dtype === undefined) {
    throw new UsageError(
      `unknown number format "${text}". Use float32, bfloat16, float16 or auto (torch.bfloat16 is read too).`,
    );
  }
  return dtype;
}

/**
 * Reads `--device` where one model runs: `cpu`, `cuda`, `cuda:1`, or the original toolkit's GPU numbers (`0` is
 * `cuda:0`).
 *
 * @param words what followed the flag, one or several words
 * @returns undefined when nothing was given
 */
export function parseDevice(words: readonly string[] | undefined): string | undefined {
  const devices = parseDevices(words);
  if (devices.length > 1) {
    throw new UsageError(
      `one model runs on one device, but ${devices.join(', ')} were given. Name one of them.`,
    );
  }
  return devices[0];
}

/** Reads `--device` where several may be given, as {@link parseDevice} reads one. */
export function parseDevices(words: readonly string[] | undefined): string[] {
  return splitList(words ?? []).map((word) => {
    if (/^\d+$/.test(word)) return `cuda:${word}`;
    if (/^(cpu|cuda(:\d+)?)$/.test(word.toLowerCase())) return word.toLowerCase();
    throw new UsageError(
      `unknown device "${word}". Use cpu, cuda, cuda:N or N; accel devices lists what this machine has.`,
    );
  });
}

/** Splits words at commas and drops empty pieces: `['a,b', 'c']` gives `['a', 'b', 'c']`. */
export function splitList(words: readonly string[]): string[] {
  return words
    .flatMap((word) => word.split(','))
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** Reads prompt lengths in tokens: `4096`, `4k`, `128K` (1K = 1024), in lists with commas. */
export function parseLengths(words: readonly string[]): number[] {
  return splitList(words).map((word) => {
    const match = /^(\d+)(k?)$/i.exec(word);
    const length = match === null ? 0 : Number(match[1]) * (match[2] === '' ? 1 : 1024);
    if (!Number.isSafeInteger(length) || length < 1) {
      throw new UsageError(`"${word}" is not a prompt length. Use tokens, such as 4096 or 8k.`);
    }
    return length;
  });
}

/** What a number on the command line may be. */
export interface NumberRule {
  /** Smallest value allowed. */
  readonly min: number;
  /** Largest value allowed; default no limit. */
  readonly max?: number;
  /** Whole numbers only; default false. */
  readonly integer?: boolean;
}

/**
 * Makes a reader for one numeric option.
 *
 * @param flag how the option is called in the message
 */
export function numberOption(flag: string, rule: NumberRule): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    const fits = value >= rule.min && value <= (rule.max ?? Infinity);
    if (!fits || !Number.isFinite(value) || (rule.integer === true && !Number.isInteger(value))) {
      const kind = rule.integer === true ? 'a whole number' : 'a number';
      const range =
        rule.max === undefined ? `of at least ${rule.min}` : `from ${rule.min} to ${rule.max}`;
      throw new UsageError(`${flag} must be ${kind} ${range}, not "${text}".`);
    }
    return value;
  };
}

/** Collects the values of an option that may be repeated. */
export function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}
