import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Tokenizer, TokenStreamOptions } from '../../src/tokenizer/tokenizer.js';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.js';
import { expectFailure, missing } from '../shared.js';
import { folder } from '../weights/build.js';
import { goldenNames, goldenOf, goldenStrings, goldenTokenizer } from './goldens.js';

function streamed(
  tokenizer: Tokenizer,
  ids: ArrayLike<number>,
  options?: TokenStreamOptions,
): string[] {
  const stream = tokenizer.stream(options);
  const pieces = Array.from(ids, (id) => stream.push(id));
  return [...pieces, stream.flush()];
}

describe.skipIf(missing).each(goldenNames)('%s', (name) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await goldenTokenizer(name);
  });

  test('gives the ids and texts of the Rust library', () => {
    const { cases, prefix_ids: prefix } = goldenOf(name);
    for (const [i, text] of goldenStrings().entries()) {
      const {
        ids,
        decoded = text,
        decoded_skip_special: skipped = decoded,
      } = cases[i] ?? { ids: [] };
      expect([...tokenizer.encode(text, { addSpecial: false })], text).toEqual(ids);
      expect([...tokenizer.encode(text)], text).toEqual([...prefix, ...ids]);
      expect(tokenizer.decode(ids), text).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecial: true }), text).toBe(skipped);
    }
  });

  test('a stream gives the same text piece by piece', () => {
    for (const { ids } of goldenOf(name).cases) {
      for (const skipSpecial of [true, false]) {
        const text = streamed(tokenizer, ids, { skipSpecial }).join('');
        expect(text).toBe(tokenizer.decode(ids, { skipSpecial }));
      }
    }
  });

  test('a stream never shows part of a character', () => {
    const texts = fc.array(
      fc.constantFrom('é', '中', '🙂', '👩‍👩‍👧', 'क्षि', ' a', '\n', 'word ', '한국'),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(texts, (words) => {
        const ids = tokenizer.encode(words.join(''), { addSpecial: false });
        const pieces = streamed(tokenizer, ids);
        expect(pieces.join('')).toBe(tokenizer.decode(ids));
        expect(pieces.join('')).not.toContain('\uFFFD');
      }),
    );
  });

  test('any ids at all are streamed without a crash, and bytes that are no text do not hold it up', () => {
    const vocab = tokenizer.vocabSize;
    fc.assert(
      fc.property(fc.array(fc.nat(vocab + 5), { maxLength: 40 }), (ids) => {
        const text = streamed(tokenizer, ids).join('');
        const whole = tokenizer.decode(ids, { skipSpecial: true });
        // Decoders may disagree on how many U+FFFD stand for a run of broken bytes, on nothing else.
        if (!whole.includes('\uFFFD')) expect(text).toBe(whole);
      }),
    );
  });

  test('a stream that continues a text keeps the space in front', () => {
    const all = tokenizer.encode('one two three', { addSpecial: false });
    const head = all.slice(0, all.length - 1);
    const tail = all.slice(all.length - 1);
    const joined = tokenizer.decode(head) + streamed(tokenizer, tail, { continues: true }).join('');
    expect(joined).toBe('one two three');
  });
});

describe.skipIf(missing)('a tokenizer', () => {
  test('drops ids it has no token for and refuses what is no id', async () => {
    const tokenizer = await goldenTokenizer('needle-7m');
    const ids = tokenizer.encode('a b', { addSpecial: false });
    expect(tokenizer.vocabSize).toBe(4096);
    expect(tokenizer.decode([...ids, 4096, 1e9])).toBe('a b');
    expect(tokenizer.decode([])).toBe('');
    await expectFailure(() => tokenizer.decode([-1]), 'ERR_ACCEL_ARGUMENT', 'Token 0 is -1');
    await expectFailure(() => tokenizer.decode([0.5]), 'ERR_ACCEL_ARGUMENT');
  });

  test('knows its special tokens from either file, as text or object', async () => {
    const config = {
      bos_token: { content: '<|begin_of_text|>' },
      eos_token: null,
      add_bos_token: true,
    };
    const map = { eos_token: '<|end_of_text|>' };
    const tokenizer = await goldenTokenizer('needle-7m', {
      'tokenizer_config.json': JSON.stringify(config),
      'special_tokens_map.json': JSON.stringify(map),
    });
    expect(tokenizer.bosTokenId).toBe(0);
    expect(tokenizer.eosTokenId).toBe(1);
    expect((await goldenTokenizer('needle-7m')).bosTokenId).toBeUndefined();
  });
});

test('a tokenizer file that is missing or broken says so', async () => {
  using empty = folder({});
  await expectFailure(() => loadTokenizer(empty.path), 'ERR_ACCEL_FILE', 'tokenizer.json');
  for (const content of ['{', '{}', '[]', 'null', '{"model":{}}']) {
    using broken = folder({ 'tokenizer.json': content });
    await expectFailure(() => loadTokenizer(broken.path), 'ERR_ACCEL_TOKENIZER', 'tokenizer.json');
  }
});
