import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matches } from '../src/glob.js';

describe('patterns', () => {
  // Checked against fnmatch.fnmatchcase of Python 3.11, with `*` added to a pattern that ends in a slash.
  it.each([
    ['config.json', '*.json', true],
    ['a/b/config.json', '*.json', true],
    ['config.jsonl', '*.json', false],
    ['configxjson', '*.json', false],
    ['Q4_K_M/m-00001.gguf', '*Q4_K_M*', true],
    ['a/b', '*/*', true],
    ['ab', '*/*', false],
    ['a', '?', true],
    ['ab', '?', false],
    ['m-3.gguf', 'm-[0-4].gguf', true],
    ['m-5.gguf', 'm-[0-4].gguf', false],
    ['m-5.gguf', 'm-[!0-4].gguf', true],
    ['a]', 'a[]]', true],
    ['a[b', 'a[b', true],
    ['a^', 'a[^x]', true],
    ['ay', 'a[^x]', false],
    ['original/params.json', 'original/', true],
    ['original', 'original/', false],
    ['a\nb', 'a*', true],
    ['a', '**', true],
  ])('%j matches %j: %s', (path, pattern, expected) => {
    expect(matches(path, pattern)).toBe(expected);
  });

  it('without wildcards match themselves alone', () => {
    const name = fc.string({ unit: 'grapheme' }).filter((text) => !/[*?[]|\/$/.test(text));
    fc.assert(
      fc.property(name, name, (one, other) => {
        expect(matches(one, one)).toBe(true);
        expect(matches(one, other)).toBe(one === other);
      }),
    );
  });

  it('with a set that cannot be read are refused', () => {
    expect(() => matches('a', '[z-a]')).toThrow('is not a file pattern');
  });
});
