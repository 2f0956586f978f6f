/** The benchmarks of this package, by the names that the seed toolkit's YAML files use. */
export type BenchmarkName = 'RULER' | 'LongBench' | 'NIAH' | 'NLL';

/** What a score means. */
export interface Metric {
  /** For example `string_match_all`, `qa_f1`, `nll`. */
  readonly name: string;
  /** Default `'higher'`. */
  readonly better?: 'higher' | 'lower';
  /** What is written after a number. Default: percent, the score is 0 to 100. */
  readonly unit?: 'percent' | 'nats';
}

/** A task at one length: what a row and column of a result table is about. */
export interface EvalTask {
  /** Unique in a benchmark: `niah_single_1_4096`, `narrativeqa`. First part of record ids, matched by `no_template_tasks`. */
  readonly id: string;
  /** Without the length: `niah_single_1`. */
  readonly name: string;
  /** Most tokens of a prompt with its answer; undefined where samples have lengths of their own (LongBench). */
  readonly length?: number;
  /** Most new tokens; 0 where nothing is generated (NLL). */
  readonly maxNewTokens: number;
  /** Texts that end an answer (LongBench's samsum: a newline). Default none. */
  readonly stop?: readonly string[];
  readonly metric: Metric;
  /** How many samples there are at most; undefined: as many as one likes. */
  readonly available?: number;
  /** Digest of the data that this task alone is made of (`qa`, LongBench). */
  readonly data?: string;
}

/** A question about a text. Its prompt is `wrap(context + question) + answerPrefix`. */
export interface QuestionSample {
  readonly kind: 'question';
  /** 0, 1, 2, … within its task. */
  readonly index: number;
  /** Everything that can be read before the question is known. */
  readonly context: string;
  /** From where the question begins to the end of what the user says. */
  readonly question: string;
  /** Begins the answer, after the assistant's header. */
  readonly answerPrefix: string;
  /** Another question about the same text, in the same form: asked first in the mode `second-turn`. */
  readonly firstQuestion: string;
  readonly references: readonly string[];
  /** What reports group by (`depth`) and metrics need besides (`language`, `classes`). Goes into the record. */
  readonly facts?: SampleFacts;
}

/** A text whose end is predicted from its beginning. */
export interface TextSample {
  readonly kind: 'text';
  readonly index: number;
  /** Tokens that go into the cache and are compressed. */
  readonly context: Int32Array;
  /** Tokens that follow; each is predicted from all before it. */
  readonly target: Int32Array;
  readonly facts?: SampleFacts;
}

/** What a record carries over from its sample. */
export type SampleFacts = Readonly<Record<string, string | number | readonly string[]>>;

/** What is asked. */
export type EvalSample = QuestionSample | TextSample;

/** How prompts are measured and cut: with the evaluated model's tokenizer, never with special tokens of its own. */
export interface PromptMeter {
  /** Tokens of a text. */
  countTokens(text: string): number;
  encode(text: string): Int32Array;
  decode(ids: ArrayLike<number>): string;
  /** The chat template around what the user says; the answer prefix comes after it. The text itself for raw prompts. */
  wrap(text: string): string;
}

/**
 * Where samples come from. Made from a config alone, so that another thread can make the same one.
 */
export interface Benchmark {
  readonly name: BenchmarkName;
  /** Length-major, as in the seed toolkit. */
  readonly tasks: readonly EvalTask[];
  /** Digest of the texts that all tasks share. With equal digests, here and in the tasks, samples are equal. */
  readonly fingerprint: string;
  /**
   * The samples of a task, one after another; `undefined` between them after each piece of work, so that a caller can
   * stop. Sample i does not depend on how many are taken. Ends where the data ends, or never.
   * @throws AccelError ERR_ACCEL_ARGUMENT when the task does not fit its length
   */
  samples(task: EvalTask, meter: PromptMeter): Iterator<EvalSample | undefined, void>;
  /**
   * Scores an answer, in the metric of its task. Not called for text samples, whose score is the mean NLL of a token.
   */
  score(task: EvalTask, prediction: string, sample: QuestionSample): number;
}
