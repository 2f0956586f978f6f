import type { Mode } from '../prompt/modes.js';
import type { SourcePaths } from '../ruler/sources.js';

/**
 * Whether prompts go through the model's chat template: `auto` if it has one, `model` always (an error if it has
 * none), `none` never.
 */
export type TemplateMode = 'auto' | 'model' | 'none';

/** What the configs of all benchmarks say. Defaults are filled in, paths are absolute, everything is JSON. */
export interface CommonConfig {
  /** Samples of each task, at each length. Default: 50, as in the seed toolkit. */
  readonly samples: number;
  /** Default: `auto`. */
  readonly template: TemplateMode;
  /** Tasks prompted raw whatever `template` says: parts of task ids in any case, or all. Default: none. */
  readonly noTemplateTasks: 'all' | readonly string[];
  /** Seeds the samples where they are drawn, 0 to 2^32 − 1. Default: 42. */
  readonly seed: number;
  /** Not empty, no repetitions. Default: `query-aware`. */
  readonly modes: readonly Mode[];
}

/** RULER: 13 synthetic tasks at chosen lengths. */
export interface RulerConfig extends CommonConfig, SourcePaths {
  readonly benchmark: 'RULER';
  /** Default: all. */
  readonly tasks: readonly string[];
  /** Most tokens of a prompt with its answer. Default: 4096. */
  readonly lengths: readonly number[];
  /** Whose limits on new tokens: RULER's, or the seed toolkit's, which differ for `vt` (30, 80). Default: `ruler`. */
  readonly tokensToGenerate: 'ruler' | 'loom';
  /**
   * Whether `vt` and `cwe` prompts begin with RULER's worked example. Small models that never saw one confuse its names with
   * the question's. Default: true; without it scores are not RULER's.
   */
  readonly workedExample: boolean;
}

/** LongBench v1: 21 tasks with texts and questions of their own. */
export interface LongBenchConfig extends Omit<CommonConfig, 'samples'> {
  readonly benchmark: 'LongBench';
  /** Default: all. */
  readonly tasks: readonly string[];
  /** Most samples of each task, the first ones; null: all. Default: null. */
  readonly samples: number | null;
  /** Folder with `<task>.jsonl` files. Default: what `accel data pull longbench` stored. */
  readonly dataPath?: string;
}

/** A {@link NiahConfig.needle} that is not a text: RULER's sentence, with another key and number in every sample. */
export const MAGIC_NUMBER: string = 'magic-number';

/** A needle in a haystack: one fact at chosen depths of texts of chosen lengths. */
export interface NiahConfig extends CommonConfig {
  readonly benchmark: 'NIAH';
  /** Samples of each length: sample i has depth i, beginning again after the last. Default: one at every depth. */
  readonly samples: number;
  /** Most tokens of a prompt with its answer. Default: 16 lengths from 1000 to 16,000. */
  readonly lengths: readonly number[];
  /** Where the needle stands, in percent of the text. Default: 0, 10, … 100. */
  readonly depths: readonly number[];
  /** Tokens of a length that the text leaves free, for question, template and answer. Default: 200. */
  readonly buffer: number;
  /** The text that is hidden, or {@link MAGIC_NUMBER}. Default: the sandwich in San Francisco. */
  readonly needle: string;
  /** What is asked. Unused with `magic-number`. */
  readonly question: string;
  /** The words that a right answer has. Unused with `magic-number`. */
  readonly answer: string;
  /** As for RULER. */
  readonly essayPath?: string;
}

/** The likelihood of a text's continuation. */
export interface NllConfig extends CommonConfig {
  readonly benchmark: 'NLL';
  /** Tokens of a window of the text, target included. Default: 4096. */
  readonly lengths: readonly number[];
  /** Tokens at a window's end whose likelihood is measured. Default: 256. */
  readonly targetTokens: number;
  /** A text file (`.txt`, `.gz`). Default: Moby-Dick. */
  readonly textPath?: string;
}

/** What a benchmark is made of. */
export type BenchmarkConfig = RulerConfig | LongBenchConfig | NiahConfig | NllConfig;
