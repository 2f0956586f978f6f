import type { SentenceSplitter } from '../text/sentences.js';
import type { QaData } from './qa-data.js';
import type { CommonWords } from './word-lists.js';
import type { KeyWords } from './words.js';

/** Where the needles hide: repeated noise sentences, prose, or other needles. */
export type Haystack = 'noise' | 'essay' | 'needle';

/** What a needle's key or value looks like: `adjective-noun`, seven digits, or a UUID. */
export type NeedleType = 'words' | 'numbers' | 'uuids';

/** Needle-in-a-haystack arguments (RULER's `niah` generator). */
export interface NiahSpec {
  readonly family: 'niah';
  readonly haystack: Haystack;
  readonly keyType: NeedleType;
  readonly valueType: NeedleType;
  readonly keys: number;
  readonly valuesPerKey: number;
  readonly queries: number;
}

/** Variable-tracking arguments (RULER's `variable_tracking` generator). */
export interface VariableTrackingSpec {
  readonly family: 'variable_tracking';
  readonly chains: number;
  readonly hops: number;
}

/** Common-words arguments (RULER's `common_words_extraction` generator), for lengths from 4096 tokens on. */
export interface CommonWordsSpec {
  readonly family: 'common_words';
  /** Words that are asked for. */
  readonly common: number;
  /** How often each of them stands in the list. */
  readonly often: number;
  /** How often every other word does. */
  readonly seldom: number;
}

/** Frequent coded words (RULER's `freq_words_extraction` generator), which has no arguments that tasks vary. */
export interface FrequentWordsSpec {
  readonly family: 'frequent_words';
}

/** Questions about documents (RULER's `qa` generator). */
export interface QaSpec {
  readonly family: 'qa';
  readonly data: QaName;
}

/** The data sets of the `qa` tasks. */
export type QaName = 'squad' | 'hotpotqa';

/** The arguments of any task. */
export type RulerSpec =
  NiahSpec | VariableTrackingSpec | CommonWordsSpec | FrequentWordsSpec | QaSpec;

/** One benchmark task: what is generated, how it is scored, how long an answer may be. */
export interface RulerTask<Spec = RulerSpec> {
  readonly name: string;
  readonly spec: Spec;
  /** RULER's own limit on new tokens. */
  readonly maxNewTokens: number;
  /** All references count, or the best one. */
  readonly metric: 'string_match_all' | 'string_match_part';
}

/** Questions and documents with their digest. */
export type QaSource = QaData & { readonly digest: string };

/** The texts that tasks are made from. */
export interface RulerSources {
  readonly words: KeyWords;
  readonly essay: EssayText;
  readonly commonWords: CommonWords;
  /** Data of `qa_1` and `qa_2`, if it was asked for. */
  readonly qa: Readonly<Partial<Record<QaName, QaSource>>>;
  /** Names the sources in fingerprints: equal strings mean equal texts. */
  readonly fingerprint: string;
}

/** Prose cut into words, and the splitter that finds its sentences. */
export interface EssayText {
  readonly words: readonly string[];
  readonly splitSentences: SentenceSplitter;
}

/** How prompts are measured: what generators need of a benchmark's meter. */
export interface PromptMeter {
  /** Tokens of a text, without special tokens. */
  readonly countTokens: (text: string) => number;
  /** The chat template around the task text; the answer prefix comes after it. Default: the text itself. */
  readonly wrap?: (taskText: string) => string;
}

/** What a generator needs besides the task. */
export interface GenerateContext extends PromptMeter {
  /** Prompt tokens plus new tokens, at most. */
  readonly length: number;
  /** New tokens to leave room for. */
  readonly maxNewTokens: number;
  /** RULER uses 42. */
  readonly seed: number;
  /** Put the worked example in front of tasks that have one (`vt`, `cwe`), as RULER does. Default true. */
  readonly workedExample?: boolean;
  readonly sources: Omit<RulerSources, 'fingerprint'>;
}

/** Samples with `undefined` after each prompt that was drawn and measured to find its size; they end with the data. */
export type SampleSteps = Generator<RulerSample | undefined, void>;

/** One generated question. The prompt is `wrap(input) + answerPrefix`. */
export interface RulerSample {
  /** `<task>_<length>/<index>`, unique in a run. */
  readonly id: string;
  readonly task: string;
  readonly length: number;
  /** 0, 1, 2, … in the order of generation. */
  readonly index: number;
  /** `context + question`: RULER's `input`. */
  readonly input: string;
  /** Everything in front of the question; nothing in it tells what is asked for. */
  readonly context: string;
  /** From the end of the text on. */
  readonly question: string;
  readonly answerPrefix: string;
  /** Another question about the same context, in the same form; not RULER's. */
  readonly firstQuestion: string;
  /** Every reference that a right answer contains; for `string_match_part` one of them is enough. */
  readonly references: readonly string[];
  /** Tokens of the prompt as measured, plus the room for new tokens: RULER's `length` field. */
  readonly measuredLength: number;
  /** qa only: number of the question in the data; questions that do not fit are left out. */
  readonly row?: number;
  /** niah only: character offset of the first answer in `input` (RULER writes it into `index`). */
  readonly answerOffset?: number;
  /** niah only: tokens of the wrapped `input` before the first answer. Counted when it is read, which takes time. */
  readonly answerTokenPosition?: number;
}
