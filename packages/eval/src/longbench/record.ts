import { z } from 'zod';

/** A sample of LongBench as its files have it; what else a file says is left out. */
export interface LongBenchRecord {
  /** The question; empty where the prompt alone asks. */
  readonly input: string;
  /** The long text. */
  readonly context: string;
  /** Every one is right. */
  readonly answers: readonly string[];
  /** Words of context, input and first answer; characters of a Chinese sample. */
  readonly length: number;
  /** `en`, `zh`, or a programming language. */
  readonly language: string;
  /** Class names of classification tasks. */
  readonly all_classes: readonly string[] | null;
  readonly _id: string;
}

/** Checks a record. Integers of parquet files come as bigint. */
export const longBenchRecord: z.ZodType<LongBenchRecord> = z.object({
  input: z.string(),
  context: z.string(),
  answers: z.array(z.string()).min(1),
  length: z.union([z.number(), z.bigint().transform(Number)]),
  language: z.string(),
  all_classes: z
    .array(z.string())
    .nullish()
    .transform((classes) => classes ?? null),
  _id: z.string(),
});
