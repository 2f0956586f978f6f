import { NumpyRandomState } from '../random/numpy-random-state.js';
import { PythonRandom } from '../random/python-random.js';
import { splitWords } from '../text/python-text.js';
import { doesNotFit, drawFitting, fitHaystack } from './fit.js';
import type { Draw, Steps } from './fit.js';
import { NOISE_SENTENCE, VARIABLE_TRACKING } from './prompts.js';
import { askFrom, extraRandom, fittedSamples } from './question.js';
import type { Question } from './question.js';
import type { GenerateContext, RulerTask, SampleSteps, VariableTrackingSpec } from './types.js';

const CAPITALS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
/** The worked example's value before it is randomised. */
const EXAMPLE_VALUE = '12345';
/** Tokens the worked example may take. */
const EXAMPLE_LENGTH = 500;
const EXAMPLE_STEP = 5;
/** Letters of a variable name in the question, and in the worked example. */
const NAME_LETTERS = 5;
const EXAMPLE_NAME_LETTERS = 3;

interface Chain {
  readonly names: readonly string[];
  readonly lines: readonly string[];
}

/** Generates samples of variable tracking, in the official generator's order of random draws, without end. */
export function* generateVariableTracking(
  task: RulerTask<VariableTrackingSpec>,
  context: GenerateContext,
): SampleSteps {
  const maker = new QuestionMaker(task.spec, context.seed);
  const example =
    (context.workedExample ?? true)
      ? yield* makeExample(maker, context, `${task.name}_${context.length}`)
      : undefined;
  yield* fittedSamples(task, context, {
    step: context.length < 4096 ? 5 : 10,
    reserve: example === undefined ? 0 : context.countTokens(example),
    search: (size) => maker.question(size),
    draw: (size) => {
      const question = maker.question(size);
      if (example === undefined) return question;
      return { ...question, context: `${maker.randomised(example)}\n${question.context}` };
    },
  });
}

/** The worked example in front of every prompt: a short question with its answer, at most 500 tokens, not wrapped. */
function* makeExample(
  maker: QuestionMaker,
  { countTokens }: GenerateContext,
  label: string,
): Steps<string> {
  const options = {
    length: EXAMPLE_LENGTH,
    step: EXAMPLE_STEP,
    draw: (units: number): Draw<Question> => {
      const value = maker.question(units, true);
      return {
        value,
        tokens: countTokens(value.context + value.question + value.answerPrefix),
      };
    },
  };
  const size = yield* fitHaystack({ ...options, reserve: 0 });
  const { value, tokens } = yield* drawFitting({ ...options, size, answer: 0 });
  if (tokens > EXAMPLE_LENGTH) {
    throw doesNotFit(`${label} (worked example)`, tokens, EXAMPLE_LENGTH);
  }
  const { context, question, answerPrefix, answers } = value;
  return `${context}${question}${answerPrefix} ${answers.join(' ')}\n`;
}

class QuestionMaker {
  readonly #random: PythonRandom;
  readonly #numbers: NumpyRandomState;
  readonly #extra: PythonRandom;
  readonly #spec: VariableTrackingSpec;

  constructor(spec: VariableTrackingSpec, seed: number) {
    this.#spec = spec;
    this.#random = new PythonRandom(seed);
    this.#numbers = new NumpyRandomState(seed);
    this.#extra = extraRandom(seed);
  }

  /** A question over `size` noise lines. @param isExample short names and a fixed value */
  question(size: number, isExample = false): Question {
    const chains = this.#chains(isExample);
    const lines = Array.from({ length: size }, () => NOISE_SENTENCE);
    for (const chain of chains) {
      const positions = this.#random
        .sampleIndices(lines.length, chain.lines.length)
        .sort((a, b) => a - b);
      for (const [i, position] of positions.entries())
        lines.splice(position + i, 0, chain.lines[i] ?? '');
    }
    const [asked] = chains;
    const context = lines.join('\n').replaceAll('. \n', '.\n');
    return askFrom(
      VARIABLE_TRACKING,
      {
        context,
        query: asked?.lines[0]?.split('= ')[1] ?? '',
        num_v: String(this.#spec.hops + 1),
      },
      asked?.names ?? [],
      () => ({ query: this.#valueNotIn(context) }),
    );
  }

  /** The worked example with new names and a new value, by text replacement, as the official generator does it. */
  randomised(example: string): string {
    let text = example;
    for (const name of splitWords(example).slice(-(this.#spec.hops + 1))) {
      text = text.replaceAll(name, this.#name(name.length));
    }
    return text.replaceAll(EXAMPLE_VALUE, this.#value());
  }

  #chains(isExample: boolean): Chain[] {
    const letters = isExample ? EXAMPLE_NAME_LETTERS : NAME_LETTERS;
    const perChain = (isExample ? Math.min(10, this.#spec.hops) : this.#spec.hops) + 1;
    const needed = perChain * this.#spec.chains;
    const drawn = Array.from({ length: needed }, () => this.#name(letters));
    // Names must differ; the odds of a repeat are 6 in 10,000 for the example and nil for the question.
    const names = new Set(drawn);
    while (names.size < needed) names.add(this.#name(letters));
    const all = [...names];
    return Array.from({ length: this.#spec.chains }, (_, i) => {
      const mine = all.slice(i * perChain, (i + 1) * perChain);
      const value = isExample ? EXAMPLE_VALUE : this.#value();
      const lines = mine.map((name, j) =>
        j === 0 ? `VAR ${name} = ${value}` : `VAR ${name} = VAR ${mine[j - 1] ?? ''} `,
      );
      return { names: mine, lines };
    });
  }

  #name(letters: number): string {
    return this.#random.choices(CAPITALS, letters).join('');
  }

  #value(): string {
    return String(this.#numbers.randInt(10000, 99999));
  }

  /** A value that no variable has. */
  #valueNotIn(text: string): string {
    let value: string;
    do value = String(this.#extra.randInt(10000, 99998));
    while (text.includes(value));
    return value;
  }
}
