import { describe, expect, test } from 'vitest';
import { continuation } from '../../src/chat/continuation.js';
import { missing } from '../shared.js';
import { goldenTokenizer } from '../tokenizer/goldens.js';

describe.skipIf(missing)('the rest of a prompt behind what a sequence has seen', () => {
  test.each(['needle-7m', 'mistral-v1', 'mistral-v3'])('%s', async (name) => {
    const tokenizer = await goldenTokenizer(name);
    const end = tokenizer.decode([2]);
    const of = (text: string): { text: string; ids: Int32Array } => ({
      text,
      ids: tokenizer.encode(text, { addSpecial: false }),
    });
    const prompt = of(`one two${end} three four`);
    const seen = of(`one two${end}`);
    const rest = continuation(tokenizer, { text: seen.text, ids: [...seen.ids] }, prompt);
    expect([...seen.ids, ...(rest ?? [])]).toEqual([...prompt.ids]);

    // The model wrote the same text with other tokens: letter by letter.
    const letters = Array.from('one two').flatMap((letter, i) => {
      const ids = [...tokenizer.encode(letter, { addSpecial: false })];
      return i === 0 || letter === ' ' ? ids : ids.slice(-1);
    });
    const written = { text: seen.text, ids: [...letters, 2] };
    expect(continuation(tokenizer, written, prompt)).toEqual(rest);

    expect([
      ...(continuation(tokenizer, { text: prompt.text, ids: [...prompt.ids] }, prompt) ?? [1]),
    ]).toEqual([]);
    for (const other of [`one too${end}`, `one two${end} three four five`]) {
      const cached = { text: other, ids: [...of(other).ids] };
      expect(continuation(tokenizer, cached, prompt), other).toBeUndefined();
    }
  });

  test('text that joins what was seen into other tokens is no continuation', async () => {
    const tokenizer = await goldenTokenizer('needle-7m');
    const text = 'The grass is gre';
    const seen = { text, ids: [...tokenizer.encode(text, { addSpecial: false })] };
    const whole = 'The grass is green.';
    const prompt = { text: whole, ids: tokenizer.encode(whole, { addSpecial: false }) };
    expect(continuation(tokenizer, seen, prompt)).toBeUndefined();
  });
});
