import { PythonRandom } from '../random/python-random.js';
import { strip } from '../text/python-text.js';
import { needleSentence, niahTemplate, NOISE_SENTENCE } from './prompts.js';
import { askFrom, extraRandom, fittedSamples } from './question.js';
import type { Question } from './question.js';
import type {
  EssayText,
  GenerateContext,
  NeedleType,
  NiahSpec,
  RulerSample,
  RulerTask,
  SampleSteps,
} from './types.js';
import { randomUuid } from './uuid.js';

/** The 40 depths (percent of the sentences) at which essay needles may sit: `round(linspace(0, 100, 40))`. */
export const DEPTHS: readonly number[] = Array.from({ length: 40 }, (_, i) =>
  roundHalfEven((i * 100) / 39),
);

/** Units the haystack shrinks by when a sample overflows, and its smallest size. */
function stepOf(spec: NiahSpec, length: number): number {
  if (spec.haystack === 'essay') return 500;
  return length < 4096 ? 5 : 25;
}

/** Generates samples of one needle task, in the official generator's order of random draws, without end. */
export function* generateNiah(task: RulerTask<NiahSpec>, context: GenerateContext): SampleSteps {
  const draw = niahQuestions(task.spec, context);
  const step = stepOf(task.spec, context.length);
  for (const sample of fittedSamples(task, context, { step, draw })) {
    yield sample && withPosition(sample, context);
  }
}

function withPosition(sample: RulerSample, { wrap, countTokens }: GenerateContext): RulerSample {
  const answer = sample.references[0] ?? '';
  return {
    ...sample,
    answerOffset: sample.input.indexOf(answer),
    get answerTokenPosition() {
      const text = wrap === undefined ? sample.input : wrap(sample.input);
      return countTokens(text.slice(0, text.indexOf(answer)));
    },
  };
}

/** The function that draws one question with a haystack of `size` units. */
function niahQuestions(
  spec: NiahSpec,
  { seed, sources }: GenerateContext,
): (size: number) => Question {
  const random = new PythonRandom(seed);
  const extra = extraRandom(seed);
  const keyCount = Math.max(spec.keys, spec.queries);
  const singleAnswer = spec.queries * spec.valuesPerKey === 1;
  const template = niahTemplate(singleAnswer);
  const typeName = singleAnswer ? spec.valueType.slice(0, -1) : spec.valueType;
  const { words } = sources;
  const sentencesOf = sentenceCache(sources.essay);

  function draw(type: NeedleType, from = random): string {
    if (type === 'numbers') return String(from.randInt(1_000_000, 9_999_999));
    if (type === 'words') return words.at(from.randBelow(words.length));
    return randomUuid(from);
  }

  return (size) => {
    const keys: string[] = [];
    const values: string[][] = [];
    for (let k = 0; k < keyCount; k++) {
      keys.push(draw(spec.keyType));
      values.push(Array.from({ length: spec.valuesPerKey }, () => draw(spec.valueType)));
    }
    const needles = keys.flatMap((key, k) =>
      (values[k] ?? []).map((value) => needleSentence(spec.valueType, key, value)),
    );
    // A generator of its own, started anew: every sample gets the same permutation.
    new PythonRandom(seed).shuffle(needles);
    const lineKeys: string[] = [];
    const context =
      spec.haystack === 'essay' ? inEssay(size, needles) : inLines(size, needles, lineKeys);
    const asked = random.sampleIndices(keyCount, spec.queries);
    const others = [...keys.filter((_, k) => !asked.includes(k)), ...lineKeys];
    return askFrom(
      template,
      {
        type_needle_v: typeName,
        context,
        query: enumerate(asked.map((k) => keys[k] ?? '')),
      },
      asked.flatMap((k) => values[k] ?? []),
      () => ({ query: enumerate(otherKeys(others, context)) }),
    );
  };

  /** Keys of the text that are not asked for; where it has none, keys that are not in it. */
  function otherKeys(others: readonly string[], context: string): readonly string[] {
    if (others.length >= spec.queries) return extra.sample(others, spec.queries);
    return Array.from({ length: spec.queries }, () => {
      let key = draw(spec.keyType, extra);
      while (context.includes(key)) key = draw(spec.keyType, extra);
      return key;
    });
  }

  function inEssay(size: number, needles: readonly string[]): string {
    const sentences = sentencesOf(size);
    const positions = random
      .sample(DEPTHS, needles.length)
      .map((depth) => Math.trunc(sentences.length * (depth / 100)))
      .sort((a, b) => a - b);
    const pieces: string[] = [];
    let from = 0;
    for (const [i, to] of positions.entries()) {
      pieces.push(sentences.slice(from, to).join(' '), needles[i] ?? '');
      from = to;
    }
    pieces.push(sentences.slice(from).join(' '));
    return pieces.join(' ');
  }

  /** @param lineKeys receives the keys of haystacks that are made of needles */
  function inLines(size: number, needles: readonly string[], lineKeys: string[]): string {
    const lines = Array.from({ length: size }, () => {
      if (spec.haystack === 'noise') return NOISE_SENTENCE;
      const key = draw(spec.keyType);
      lineKeys.push(key);
      return needleSentence(spec.valueType, key, draw(spec.valueType));
    });
    const positions = random.sampleIndices(size, needles.length).sort((a, b) => b - a);
    for (const [i, position] of positions.entries()) lines.splice(position, 0, needles[i] ?? '');
    return lines.join('\n');
  }
}

/** `a`, or `a, and b`, or `a, b, and c`. */
function enumerate(keys: readonly string[]): string {
  const last = keys.at(-1) ?? '';
  return keys.length > 1 ? `${keys.slice(0, -1).join(', ')}, and ${last}` : last;
}

/** Sentences of the first `size` essay words; the essay repeats when it is too short. Samples share one size, so the last is kept. */
function sentenceCache(essay: EssayText): (size: number) => readonly string[] {
  let kept: { size: number; sentences: readonly string[] } | undefined;
  return (size) => {
    if (kept?.size !== size) {
      kept = {
        size,
        sentences: essay.splitSentences(strip(firstWords(essay.words, size).join(' '))),
      };
    }
    return kept.sentences;
  };
}

function firstWords(words: readonly string[], count: number): readonly string[] {
  if (count <= words.length) return words.slice(0, count);
  const repeats = Math.ceil(count / words.length);
  return Array.from({ length: repeats }, () => words)
    .flat()
    .slice(0, count);
}

/** Python's and numpy's `round`. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
