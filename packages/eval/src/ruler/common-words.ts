import { argumentError } from '../errors.js';
import { PythonRandom } from '../random/python-random.js';
import { COMMON_WORDS } from './prompts.js';
import { askFrom, fittedSamples } from './question.js';
import type { Question } from './question.js';
import type { CommonWordsSpec, GenerateContext, RulerTask, SampleSteps } from './types.js';

/** Words of a list, and how often the common ones and the others stand in it. */
interface ListShape {
  readonly often: number;
  readonly seldom: number;
}

/** The list of the worked example, which has a few words only, and the list that is asked about. */
interface Shapes {
  readonly example: ListShape & { readonly words: number };
  readonly main: ListShape;
}

/** Below 4096 tokens RULER repeats words less. */
function shapesOf({ often, seldom }: CommonWordsSpec, length: number): Shapes {
  return length < 4096
    ? { example: { words: 20, often: 3, seldom: 1 }, main: { often: 6, seldom: 1 } }
    : { example: { words: 40, often: 10, seldom: 3 }, main: { often, seldom } };
}

/** Generates samples of common-words extraction, in the official generator's order of random draws, without end. */
export function* generateCommonWords(
  task: RulerTask<CommonWordsSpec>,
  context: GenerateContext,
): SampleSteps {
  yield* fittedSamples(task, context, {
    step: 10,
    probe: 4096,
    most: (length, tokensPerWord) => floorDivide(length, tokensPerWord) * 2,
    draw: commonWordsQuestions(task.spec, context),
  });
}

/** The function that draws one question about a list of `size` different words. */
function commonWordsQuestions(
  spec: CommonWordsSpec,
  { seed, length, sources, workedExample = true }: GenerateContext,
): (size: number) => Question {
  const random = new PythonRandom(seed);
  const { words, more } = sources.commonWords;
  const base = [...words];
  new PythonRandom(seed).shuffle(base);
  const shapes = shapesOf(spec, length);

  function drawWords(count: number): string[] {
    if (count <= base.length) return random.sample(base, count);
    if (count > more.length) {
      throw argumentError(
        `cwe needs ${count} different words to fill ${length} tokens and the list has ${more.length}. ` +
          'Give a longer one (english_words_path), or leave this length out.',
      );
    }
    return random.sampleIndices(more.length, count).map((index) => more.at(index) ?? '');
  }

  function ask(count: number, { often, seldom }: ListShape): Question {
    const drawn = drawWords(count);
    const common = drawn.slice(0, spec.common);
    const list = [...repeat(common, often), ...repeat(drawn.slice(spec.common), seldom)];
    // A generator of its own, started anew: lists of one length get the same permutation.
    new PythonRandom(seed).shuffle(list);
    return askFrom(
      COMMON_WORDS,
      { context: numbered(list), num_cw: String(spec.common), which: 'most' },
      common,
      // Not "the five most common": the answer would hold half of what is asked next.
      () => ({ which: 'least' }),
    );
  }

  return (size) => {
    if (!workedExample) return ask(size, shapes.main);
    const example = ask(shapes.example.words, shapes.example);
    const shown = `${example.context}${example.question}${example.answerPrefix} ${numbered(example.answers)}`;
    const question = ask(size, shapes.main);
    return { ...question, context: `${shown}\n${question.context}` };
  };
}

function numbered(words: readonly string[]): string {
  return words.map((word, i) => `${i + 1}. ${word}`).join(' ');
}

function repeat<T>(items: readonly T[], times: number): T[] {
  return Array.from({ length: times }, () => items).flat();
}

/** Python's `a // b` of positive floats, which is not always the floor of the rounded quotient. */
function floorDivide(a: number, b: number): number {
  return Math.round((a - (a % b)) / b);
}
