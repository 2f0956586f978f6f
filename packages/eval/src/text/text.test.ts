import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sharedFile } from '../testing/shared.js';
import { punktSplitter } from './punkt.js';
import { readPunktParameters } from './punkt-parameters.js';
import { collapseAndSplit, splitWords } from './python-text.js';
import { splitSentences } from './sentences.js';

const parameters = sharedFile('data/ruler/punkt-english.json.gz');
const golden = sharedFile('data/ruler/punkt-golden.json');
const essays = sharedFile('data/ruler/PaulGrahamEssays.json.gz');
const missing = parameters.missing ?? golden.missing ?? essays.missing;

describe.skipIf(missing !== undefined)(
  `Punkt against NLTK 3.8${missing ? `: ${missing}` : ''}`,
  () => {
    const load = (): string[] => {
      const text = (
        JSON.parse(gunzipSync(readFileSync(essays.path)).toString()) as { text: string }
      ).text;
      return collapseAndSplit(text);
    };

    it('splits the first 3,000 essay words into the same sentences', async () => {
      const { sentences } = JSON.parse(readFileSync(golden.path, 'utf8')) as {
        sentences: string[];
      };
      const split = punktSplitter(await readPunktParameters(parameters.path));
      expect(split(load().slice(0, 3000).join(' '))).toEqual(sentences);
    });

    it('finds 3,142 sentences in the first 60,000 words', async () => {
      const split = punktSplitter(await readPunktParameters(parameters.path));
      expect(split(load().slice(0, 60_000).join(' '))).toHaveLength(3142);
    });

    it('loses nothing but whitespace', async () => {
      const split = punktSplitter(await readPunktParameters(parameters.path));
      const piece = fc.constantFrom(
        'Mr.',
        'Smith',
        'went',
        '."',
        '...',
        'U.S.',
        'J.',
        '3.5',
        ')',
        '--',
        '?!',
        ' ',
        '\n',
        'I',
        'e.g.',
        ',',
      );
      fc.assert(
        fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
          const text = pieces.join(' ').trim();
          expect(split(text).join('').replace(/\s/g, '')).toBe(text.replace(/\s/g, ''));
        }),
      );
    });

    it('says which file is not a parameter file', async () => {
      await expect(readPunktParameters(golden.path)).rejects.toMatchObject({
        code: 'ERR_ACCEL_FILE',
      });
      await expect(readPunktParameters('/nowhere/punkt.json')).rejects.toThrow(
        /Cannot read the Punkt parameters/,
      );
    });
  },
);

describe('splitSentences', () => {
  it('ends sentences at end marks, not at abbreviations or initials', () => {
    expect(
      splitSentences(
        'Mr. Starbuck said "Aye!" loudly. Then J. R. Coffin left. "Call me Ishmael." He did? Yes... he did',
      ),
    ).toEqual([
      'Mr. Starbuck said "Aye!" loudly.',
      'Then J. R. Coffin left.',
      '"Call me Ishmael."',
      'He did?',
      'Yes... he did',
    ]);
  });

  it('loses nothing but whitespace', () => {
    const piece = fc.constantFrom(
      'Mr.',
      'Ahab',
      'sails',
      '!"',
      '...',
      'J.',
      '3.5',
      ')',
      '?',
      ' ',
      '\n',
      'I',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const text = pieces.join(' ');
        const sentences = splitSentences(text);
        expect(sentences.join('').replace(/\s/g, '')).toBe(text.replace(/\s/g, ''));
        expect(sentences.every((sentence) => sentence.trim() === sentence && sentence !== '')).toBe(
          true,
        );
      }),
    );
  });
});

describe('Python text functions', () => {
  it('splits as Python does', () => {
    expect(collapseAndSplit(' a\x1cb  c\u0085d\ufeffe')).toEqual(['', 'a', 'b', 'c', 'd\ufeffe']);
    expect(splitWords('  a \n b ')).toEqual(['a', 'b']);
  });
});
