import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Tokenizer, TokenStreamOptions } from '../../src/tokenizer/tokenizer.js';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.js';
import { expectFailure, missing, shared } from '../shared.js';
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

/** Characters of one to four bytes, and what people see as one character: modifiers, joiners, flags, marks. */
const graphemes = [
  ...['é', '中', '🙂', '👍🏽', '👩‍👩‍👧', '🏴󠁧󠁢󠁳󠁣󠁴󠁿', '🇩🇪', '❤️', 'क्षि', 'ằ', '한국', '𝔘', '\u{10FFFD}'],
  ...[' a', '\n', 'word ', '1', '\u0000'],
];

/** No half of a surrogate pair stands alone. */
function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function withoutBroken(text: string): string {
  return text.replaceAll('\uFFFD', '');
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
      expect([...tokenizer.encode(text, { addSpecial: true })], text).toEqual([...prefix, ...ids]);
      const begins = prefix.length > 0 && prefix.every((id, at) => ids[at] === id);
      expect([...tokenizer.encode(text)], text).toEqual(begins ? ids : [...prefix, ...ids]);
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

  test('a text that begins with the special tokens gets no second ones', () => {
    const { prefix_ids: prefix } = goldenOf(name);
    const begin = tokenizer.decode(prefix);
    for (const text of ['', 'word', ' two words', '\n']) {
      const ids = tokenizer.encode(begin + text, { addSpecial: false });
      expect([...tokenizer.encode(begin + text)]).toEqual([...ids]);
      expect([...tokenizer.encode(text)].slice(0, prefix.length)).toEqual(prefix);
    }
  });

  test('a stream never shows part of a character', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...graphemes), { maxLength: 12 }), (words) => {
        const ids = tokenizer.encode(words.join(''), { addSpecial: false });
        const pieces = streamed(tokenizer, ids);
        expect(pieces.join('')).toBe(tokenizer.decode(ids));
        expect(pieces.join('')).not.toContain('\uFFFD');
        expect(pieces.every(isWellFormed)).toBe(true);
      }),
    );
  });

  test('any characters at all are streamed whole', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 24 }), (text) => {
        const ids = tokenizer.encode(text, { addSpecial: false });
        const pieces = streamed(tokenizer, ids, { skipSpecial: false });
        expect(pieces.join('')).toBe(tokenizer.decode(ids));
        expect(pieces.every(isWellFormed)).toBe(true);
      }),
    );
  });

  test('any ids at all are streamed without a crash, and bytes that are no text do not hold it up', () => {
    const vocab = tokenizer.vocabSize;
    // Small ids are bytes and special tokens in every vocabulary here, so half of the lists are made of them alone.
    const ids = fc.oneof(fc.nat(vocab + 5), fc.nat(Math.min(vocab, 300)));
    fc.assert(
      fc.property(fc.array(ids, { maxLength: 40 }), (ids) => {
        const pieces = streamed(tokenizer, ids);
        const whole = tokenizer.decode(ids, { skipSpecial: true });
        expect(pieces.every(isWellFormed)).toBe(true);
        // Decoders may disagree on how many U+FFFD stand for a run of broken bytes, on nothing else.
        expect(withoutBroken(pieces.join(''))).toBe(withoutBroken(whole));
        if (!whole.includes('\uFFFD')) expect(pieces.join('')).toBe(whole);
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

  test('with special tokens behind a text too, doubles none in front', async () => {
    const file = JSON.parse(
      readFileSync(join(shared, 'models/needle-7m/tokenizer.json'), 'utf8'),
    ) as { post_processor: { single: object[]; special_tokens: Record<string, object> } };
    const end = '<|end_of_text|>';
    file.post_processor.single.push({ SpecialToken: { id: end, type_id: 0 } });
    file.post_processor.special_tokens[end] = { id: end, ids: [1], tokens: [end] };
    using dir = folder({ 'tokenizer.json': JSON.stringify(file) });
    const tokenizer = await loadTokenizer(dir.path);
    const [a] = tokenizer.encode('a', { addSpecial: false });
    expect([...tokenizer.encode('a')]).toEqual([0, a, 1]);
    expect([...tokenizer.encode('<|begin_of_text|>a')]).toEqual([0, a, 1]);
    expect([...tokenizer.encode('<|begin_of_text|>a', { addSpecial: true })]).toEqual([0, 0, a, 1]);
    expect([...tokenizer.encode('')]).toEqual([0, 1]);
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
