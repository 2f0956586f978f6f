import { describe, expect, it } from 'vitest';
import { UsageError } from '../src/errors.js';
import { formatBytes, formatLength, formatRate, formatSeconds } from '../src/format.js';
import { numberOption, parseDevice, parseDtype, parseLengths, splitList } from '../src/values.js';

describe('option values', () => {
  it.each([
    ['torch.bfloat16', 'bfloat16'],
    ['BF16', 'bfloat16'],
    ['float32', 'float32'],
    ['torch.half', 'float16'],
    ['auto', 'auto'],
  ])('reads the number format %s as %s', (text, dtype) => {
    expect(parseDtype(text)).toBe(dtype);
  });

  it('refuses an unknown number format', () => {
    expect(() => parseDtype('int4')).toThrow(UsageError);
  });

  it('reads devices, GPU numbers included', () => {
    expect(parseDevice(undefined)).toBeUndefined();
    expect(parseDevice(['cpu'])).toBe('cpu');
    expect(parseDevice(['CUDA:1'])).toBe('cuda:1');
    expect(parseDevice(['3'])).toBe('cuda:3');
  });

  it('refuses several devices and unknown ones', () => {
    expect(() => parseDevice(['0', '1'])).toThrow(/cuda:0, cuda:1/);
    expect(() => parseDevice(['0,1'])).toThrow(/one device/);
    expect(() => parseDevice(['tpu'])).toThrow(/unknown device "tpu"/);
  });

  it('reads lengths in tokens and in K', () => {
    expect(parseLengths(['4096,8k', '128K'])).toEqual([4096, 8192, 131072]);
    expect(() => parseLengths(['4.5k'])).toThrow(/"4.5k" is not a prompt length/);
    expect(() => parseLengths(['0'])).toThrow(UsageError);
  });

  it('splits lists at commas and spaces', () => {
    expect(splitList(['a, b', 'c,', ''])).toEqual(['a', 'b', 'c']);
  });

  it('checks ranges and whole numbers', () => {
    const topP = numberOption('--top-p', { min: 0, max: 1 });
    expect(topP('0.9')).toBe(0.9);
    expect(() => topP('1.5')).toThrow('--top-p must be a number from 0 to 1, not "1.5".');
    const count = numberOption('--max-tokens', { min: 1, integer: true });
    expect(() => count('2.5')).toThrow('--max-tokens must be a whole number of at least 1');
    expect(() => count('')).toThrow(UsageError);
    expect(() => count('many')).toThrow(UsageError);
  });
});

describe('formats', () => {
  it('prints bytes, times, lengths and rates', () => {
    expect([0, 1023, 1024, 1536, 8 * 1024 ** 2, 200 * 1024 ** 3].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.0 KiB',
      '1.5 KiB',
      '8.0 MiB',
      '200 GiB',
    ]);
    expect([0.4, 12.4, 59.6, 65, 3725].map(formatSeconds)).toEqual([
      '0.40 s',
      '12 s',
      '60 s',
      '1:05',
      '1:02:05',
    ]);
    expect([4096, 1000, 131072].map(formatLength)).toEqual(['4K', '1000', '128K']);
    expect([12345.6, 97.34, 4.051, Infinity].map(formatRate)).toEqual([
      '12,346',
      '97.3',
      '4.05',
      '-',
    ]);
  });
});
