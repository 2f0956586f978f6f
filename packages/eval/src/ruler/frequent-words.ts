import { PythonRandom } from '../random/python-random.js';
import { sortedDistinct } from '../text/python-text.js';
import { doesNotFit } from './fit.js';
import type { Draw, Steps } from './fit.js';
import { FREQUENT_WORDS } from './prompts.js';
import { askFrom, measured, sampleOf } from './question.js';
import type { Question } from './question.js';
import type { FrequentWordsSpec, GenerateContext, RulerTask, SampleSteps } from './types.js';

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const WORD_LETTERS = 6;
/** Tokens of the prompt for each word of the vocabulary. */
const TOKENS_PER_VOCABULARY_WORD = 50;
/** The most frequent "word", which does not count. */
const DOTS = '...';
/** Words that are asked for: the ranks behind the dots. */
const ASKED = 3;
/** Tokens of a prompt whose vocabulary has the words that are asked for. */
const LEAST_ROOM = TOKENS_PER_VOCABULARY_WORD * (ASKED + 1);
/** ζ(2): makes the frequencies k^−2 add up to 1. */
const ZETA_2 = Math.PI ** 2 / 6;
/** Words of the shortest text in which all words asked for appear. */
const SMALLEST = Math.ceil((ASKED + 1) ** 2 * ZETA_2);

/** Coded words by falling frequency. */
type Vocabulary = readonly string[];

/**
 * Generates samples of frequent coded words, in the official generator's order of random draws, without end. The size
 * grows in steps instead of being searched, so this task has a fit of its own.
 */
export function* generateFrequentWords(
  task: RulerTask<FrequentWordsSpec>,
  context: GenerateContext,
): SampleSteps {
  const { length, maxNewTokens, seed } = context;
  const label = `${task.name}_${length}`;
  const room = length - maxNewTokens;
  if (room < LEAST_ROOM) throw doesNotFit(label, LEAST_ROOM + maxNewTokens, length);
  const step = Math.max(1, Math.floor(room / 32));
  const random = new PythonRandom(seed);
  const drawVocabulary = (): Vocabulary =>
    vocabularyOf(random, Math.floor(room / TOKENS_PER_VOCABULARY_WORD), seed);
  const draw = (vocabulary: Vocabulary, size: number): Draw<Question> =>
    measured(questionAbout(vocabulary, size, seed), context);

  const size = yield* grow(drawVocabulary());
  for (let index = 0; ; index++) {
    yield sampleOf(task, context, index, yield* shrink(drawVocabulary(), index));
  }

  /** The greatest size that fits, in steps from where every word would take six tokens. */
  function* grow(vocabulary: Vocabulary): Steps<number> {
    let words = Math.floor(room / WORD_LETTERS);
    while (draw(vocabulary, words).tokens < room) {
      yield undefined;
      words += step;
    }
    return words - step;
  }

  /** Ends with an error where the words asked for would no longer appear; the original goes on, or never ends. */
  function* shrink(vocabulary: Vocabulary, index: number): Steps<Draw<Question>> {
    let words = Math.max(size, SMALLEST);
    for (;;) {
      const drawn = draw(vocabulary, words);
      yield undefined;
      if (drawn.tokens <= room) return drawn;
      words -= step;
      if (words < SMALLEST) {
        throw doesNotFit(`${label}/${index}`, drawn.tokens + maxNewTokens, length);
      }
    }
  }
}

/** Distinct random words in random order; the dots take the first place. */
function vocabularyOf(random: PythonRandom, size: number, seed: number): Vocabulary {
  const word = (): string => random.choices(LETTERS, WORD_LETTERS).join('');
  const drawn = new Set(Array.from({ length: size }, word));
  while (drawn.size < size) drawn.add(word());
  const words = sortedDistinct(drawn);
  // A generator of its own, started anew: every vocabulary gets the same permutation.
  new PythonRandom(seed).shuffle(words);
  return [DOTS, ...words.slice(1)];
}

/** How often the word of rank 1, 2, … stands in a text of `size` words. */
function occurrences(rank: number, size: number): number {
  return Math.trunc((size * rank ** -2) / ZETA_2);
}

function questionAbout(vocabulary: Vocabulary, size: number, seed: number): Question {
  const words = vocabulary.flatMap((word, i) =>
    Array.from({ length: occurrences(i + 1, size) }, () => word),
  );
  new PythonRandom(seed).shuffle(words);
  return askFrom(
    FREQUENT_WORDS,
    { context: words.join(' '), which: 'most' },
    vocabulary.slice(1, 1 + ASKED),
    () => ({ which: 'least' }),
  );
}
