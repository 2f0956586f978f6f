import { MAGIC_NUMBER, type NiahConfig } from '../config/types.js';
import { PythonRandom } from '../random/python-random.js';
import { defaultWordLists } from '../ruler/default-words.js';
import { fill, needleSentence, niahTemplate } from '../ruler/prompts.js';
import { KeyWords } from '../ruler/words.js';
import { stringMatchAll } from '../score.js';
import { wordOverlap } from './word-overlap.js';

/** One needle with everything that is said about it. */
export interface Needle {
  /** Before and behind the text with the needle, up to where the question begins. */
  readonly head: string;
  readonly tail: string;
  readonly needle: string;
  readonly question: string;
  readonly firstQuestion: string;
  readonly answerPrefix: string;
  readonly references: readonly string[];
}

/** A kind of needle: its prompts and how answers are scored. */
export interface NeedleForm {
  readonly maxNewTokens: number;
  readonly metric: string;
  /** The needles of samples 0, 1, 2, … */
  needles(): Generator<Needle, never>;
  /** 0 to 100. */
  score(prediction: string, references: readonly string[]): number;
}

/** The form that a config asks for. */
export function needleForm(config: NiahConfig): NeedleForm {
  return config.needle === MAGIC_NUMBER ? magicNumber(config.seed) : sentence(config);
}

/**
 * A sentence, asked for as the seed toolkit does (the prompt is older: FranxYao/Long-Context-Data-Engineering) and scored
 * by words.
 */
function sentence({ needle, question, answer }: NiahConfig): NeedleForm {
  const ask = (what: string): string =>
    ` Based on the content of the book, Question: ${what}\nAnswer:`;
  return {
    maxNewTokens: 50,
    metric: 'word_overlap',
    *needles() {
      for (;;) {
        yield {
          head: '<|im_start|> This is a very long story book: <book> ',
          tail: ' </book>.\n',
          needle,
          question: ask(question),
          firstQuestion: ask('What is this book about?'),
          answerPrefix: '',
          references: [answer],
        };
      }
    },
    score: (prediction, [reference = '']) => wordOverlap(prediction, reference),
  };
}

/** RULER's needle, prompt and score, one needle at a chosen depth. Its keys are RULER's free ones. */
function magicNumber(seed: number): NeedleForm {
  const template = niahTemplate(true);
  const { adjectives, nouns } = defaultWordLists();
  const words = new KeyWords(adjectives, nouns);
  const fields = { type_needle_v: 'number' };
  const [head = '', tail = ''] = fill(template.context, fields).split('{context}');
  return {
    maxNewTokens: 128,
    metric: 'string_match_all',
    *needles() {
      const random = new PythonRandom(seed);
      const key = (): string => words.at(random.randBelow(words.length));
      for (;;) {
        const query = key();
        const value = String(random.randInt(1_000_000, 9_999_999));
        yield {
          head,
          tail,
          needle: needleSentence('numbers', query, value),
          question: fill(template.question, { ...fields, query }),
          firstQuestion: fill(template.question, { ...fields, query: key() }),
          answerPrefix: fill(template.answerPrefix, { ...fields, query }),
          references: [value],
        };
      }
    },
    score: stringMatchAll,
  };
}
