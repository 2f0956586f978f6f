import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cleanPrediction,
  isNullPrediction,
  meanOf,
  round2,
  stringMatchAll,
  stringMatchPart,
} from './score.js';

describe('stringMatchAll', () => {
  it.each([
    [' 1234567.', ['1234567'], 100],
    ['the numbers are 1, 2', ['1', '2', '3', '4'], 50],
    ['ABCDE fghij', ['abcde', 'FGHIJ'], 100],
    ['', ['1'], 0],
    ['12345678', ['1234567'], 100], // a substring counts: RULER's rule
    ['anything', [], 0],
  ])('%j against %j is %d', (prediction, references, score) => {
    expect(stringMatchAll(prediction, references)).toBe(score);
  });

  it('turns control characters into newlines, so they break a match', () => {
    expect(cleanPrediction('\u0000 a\tb\u001f ')).toBe('a\nb');
    expect(stringMatchAll('ab\u0000cd', ['abcd'])).toBe(0);
    expect(isNullPrediction(' \u0001\n')).toBe(true);
  });

  it('is 100 for a text made of the references, whatever lies between', () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[A-Z0-9]{1,8}$/), { minLength: 1 }),
        fc.string(),
        (references, glue) => {
          expect(stringMatchAll(references.join(glue), references)).toBe(100);
        },
      ),
    );
  });
});

describe('stringMatchPart', () => {
  it.each([
    ['in the 10th century.', ['10th century', '10th and 11th centuries'], 100],
    ['FRANCE', ['France', 'France'], 100],
    ['Spain', ['France', 'France'], 0],
    ['', ['yes'], 0],
    ['anything', [], 0],
  ])('%j against %j is %d', (prediction, references, score) => {
    expect(stringMatchPart(prediction, references)).toBe(score);
  });
});

describe('meanOf', () => {
  it('gives the mean and its standard error', () => {
    const { n, mean, se } = meanOf([100, 50, 0, 50]);
    expect([n, mean]).toEqual([4, 50]);
    expect(se).toBeCloseTo(Math.sqrt(5000 / 3 / 4), 12);
  });

  it('has no error for one value and no mean for none', () => {
    expect(meanOf([70])).toEqual({ n: 1, mean: 70, se: null });
    expect(meanOf([]).mean).toBeNaN();
  });

  it('rounds as reports do', () => {
    expect(round2(66.66666)).toBe(66.67);
  });
});
