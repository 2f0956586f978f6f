import { AccelError, type AccelErrorCode, type PolicyJson } from '@accel/core';
import { z } from 'zod';
import { messageOf } from '../errors.js';
import type { EvalMethod, Failure, Job, PromptTurn } from './types.js';

/** A method on its way to a worker, which makes the policy again from its document. */
export interface WireMethod {
  readonly name: string;
  readonly policy: PolicyJson;
}

/** What a worker must know before it can answer jobs. */
export interface WorkOrder {
  readonly methods: readonly WireMethod[];
  /** Jobs answered together, at most. */
  readonly batchSize: number;
  /** Fail when a part of a policy never acted or a fallback ran. */
  readonly strict: boolean;
}

/** A job that JSON can hold: token ids are base64 of their 32-bit little-endian numbers. */
export interface WireJob {
  readonly id: string;
  readonly method: string;
  readonly prompt: {
    readonly turns: readonly (Omit<PromptTurn, 'ids'> & { readonly ids: string })[];
    readonly stopIds: readonly number[];
    readonly stop: readonly string[];
    readonly target?: string;
  };
}

/** The document of a method. */
export function packMethod({ name, policy }: EvalMethod): WireMethod {
  return { name, policy: policy.toJSON() };
}

/** A job in the form that {@link jobsSchema} reads. */
export function packJob({ prompt: { turns, target, ...prompt }, ...job }: Job): WireJob {
  return {
    ...job,
    prompt: {
      ...prompt,
      turns: turns.map((turn) => ({ ...turn, ids: packIds(turn.ids) })),
      ...(target !== undefined && { target: packIds(target) }),
    },
  };
}

/** Anything thrown, in the form in which it travels. */
export function packError(error: unknown): Failure {
  return AccelError.isInstance(error)
    ? { code: error.code, message: error.message }
    : { code: 'ERR_ACCEL_INTERNAL', message: messageOf(error) };
}

/** The error that a worker threw, to be thrown again here. */
export function unpackError({ code, message }: Failure): AccelError {
  return new AccelError(code as AccelErrorCode, message);
}

function packIds(ids: Int32Array): string {
  return Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength).toString('base64');
}

const count = z.int().nonnegative();

const tokenIds = z.base64().transform((text, context) => {
  const bytes = Buffer.from(text, 'base64');
  // Copied, because a view of four-byte numbers must start at a multiple of four and a pooled buffer may not.
  if (bytes.length % 4 === 0) return new Int32Array(Uint8Array.from(bytes).buffer);
  context.addIssue({ code: 'custom', message: `${bytes.length} bytes are not 32-bit token ids` });
  return z.NEVER;
});

/** Reads packed jobs. */
export const jobsSchema: z.ZodType<Job[], WireJob[]> = z.array(
  z.object({
    id: z.string(),
    method: z.string(),
    prompt: z.object({
      turns: z.array(
        z.object({
          text: z.string(),
          ids: tokenIds,
          answer: count,
          user: z.string().exactOptional(),
          answerPrefix: z.string().exactOptional(),
        }),
      ),
      stopIds: z.array(count),
      stop: z.array(z.string()),
      target: tokenIds.exactOptional(),
    }),
  }),
);

/** Reads a work order. The policies are checked by whoever knows the methods. */
export const workOrderSchema: z.ZodType<WorkOrder> = z.object({
  methods: z.array(
    z.object({
      name: z.string(),
      policy: z.custom<PolicyJson>((value) => typeof value === 'object' && value !== null),
    }),
  ),
  batchSize: z.int().positive(),
  strict: z.boolean(),
});
