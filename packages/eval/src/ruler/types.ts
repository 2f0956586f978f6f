import type { SentenceSplitter } from '../text/sentences.js';
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

/** One benchmark task: what is generated, how it is scored, how long an answer may be. */
export interface RulerTask<Spec = NiahSpec | VariableTrackingSpec> {
  readonly name: string;
  readonly spec: Spec;
  /** RULER's own limit on new tokens. */
  readonly maxNewTokens: number;
  readonly metric: 'string_match_all';
}

/** The texts that tasks are made from. */
export interface RulerSources {
  readonly words: KeyWords;
  readonly essay: EssayText;
  /** Names the sources in fingerprints: equal strings mean equal texts. */
  readonly fingerprint: string;
}

/** Prose cut into words, and the splitter that finds its sentences. */
export interface EssayText {
  readonly words: readonly string[];
  readonly splitSentences: SentenceSplitter;
}

/** How prompts are measured. */
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
  /** Put the worked example in front of tasks that have one (`vt`), as RULER does. Default true. */
  readonly workedExample?: boolean;
  readonly sources: Pick<RulerSources, 'words' | 'essay'>;
}

/** Samples without end, with `undefined` after each prompt that was drawn and measured to find its size. */
export type SampleSteps = Generator<RulerSample | undefined, never>;

/** One generated question. The prompt is `wrap(input) + answerPrefix`. */
export interface RulerSample {
  /** `<task>_<length>/<index>`, unique in a run. */
  readonly id: string;
  readonly task: string;
  readonly length: number;
  /** 0, 1, 2, … in the order of generation. */
  readonly index: number;
  readonly input: string;
  readonly answerPrefix: string;
  /** Every reference that a right answer contains. */
  readonly references: readonly string[];
  /** Tokens of the prompt as measured, plus the room for new tokens: RULER's `length` field. */
  readonly measuredLength: number;
  /** niah only: character offset of the first answer in `input` (RULER writes it into `index`). */
  readonly answerOffset?: number;
  /** niah only: tokens of `input` before the first answer. */
  readonly answerTokenPosition?: number;
}
