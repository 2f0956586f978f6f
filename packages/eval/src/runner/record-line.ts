import { z } from 'zod';
import { answerSchema, failureSchema } from '../execute/schemas.js';
import { MODES } from '../prompt/modes.js';
import { fileError } from '../errors.js';
import type { RunRecord } from './records.js';

/** First line of `records.jsonl`. */
export const RECORDS_FORMAT = 'accel-eval-records/2';

const headerLine = z.object({
  format: z.literal(RECORDS_FORMAT),
  settings: z.record(z.string(), z.unknown()),
});

const count = z.number().int().nonnegative();
const key = {
  id: z.string(),
  task: z.string(),
  length: count.nullable(),
  sample: count,
  mode: z.enum(MODES),
  method: z.string(),
  policy: z.string(),
};

const failedLine: z.ZodType<RunRecord> = z.object({ ...key, failure: failureSchema });

const answeredLine: z.ZodType<RunRecord> = z.intersection(
  z.object({
    ...key,
    references: z.array(z.string()),
    facts: z.record(z.string(), z.union([z.string(), z.number(), z.array(z.string())])).optional(),
    score: z.number(),
  }),
  answerSchema,
);

/** The settings in the first line; undefined when it is not a header of this version. */
export function parseHeader(line: string): Readonly<Record<string, unknown>> | undefined {
  const parsed = headerLine.safeParse(parseJson(line));
  return parsed.success ? parsed.data.settings : undefined;
}

/**
 * A record from its line.
 * @param place `file:line` for the message
 * @throws AccelError ERR_ACCEL_FILE
 */
export function parseRecord(place: string, line: string): RunRecord {
  const value = parseJson(line);
  const failed = typeof value === 'object' && value !== null && 'failure' in value;
  const parsed = (failed ? failedLine : answeredLine).safeParse(value);
  if (parsed.success) return parsed.data;
  throw fileError(
    `${place} is not a record: ${z.prettifyError(parsed.error)}. Delete that line to have it run again, or choose another output folder.`,
    parsed.error,
  );
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
