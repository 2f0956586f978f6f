import { z } from 'zod';
import type { Answer, Failure, Outcome, ReceiptDigest } from './types.js';

const count = z.int().nonnegative();
const seconds = z.number().nonnegative();
const counters = z.record(z.string(), z.number());

const receiptSchema: z.ZodType<ReceiptDigest> = z.object({
  rowsIn: z.number(),
  rowsStored: z.number(),
  layerRows: z.array(z.number()),
  kv: z.object({ measuredBytes: z.number(), arithmeticBytes: z.number(), fullBytes: z.number() }),
  density: z.number().optional(),
  acted: counters,
  fallbacks: z.array(z.string()),
  kernels: counters,
});

/** Reads an answer. */
export const answerSchema: z.ZodType<Answer> = z.object({
  prediction: z.string(),
  nll: z.number().exactOptional(),
  promptTokens: count,
  newTokens: count,
  finish: z.enum(['eos', 'stop', 'length']),
  prefillSeconds: seconds,
  decodeTokens: count,
  decodeSeconds: seconds,
  receipt: receiptSchema.optional(),
});

/** Reads a failure, or an error that a worker threw. */
export const failureSchema: z.ZodType<Failure> = z.object({
  code: z.string().regex(/^ERR_ACCEL_[A-Z_]+$/),
  message: z.string(),
});

/** Reads outcomes, which JSON can hold as they are. */
export const outcomesSchema: z.ZodType<Outcome[]> = z.array(
  z.union([z.object({ answer: answerSchema }), z.object({ failure: failureSchema })]),
);
