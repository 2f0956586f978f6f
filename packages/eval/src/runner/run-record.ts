import type { Model, Receipt } from '@accel/core';
import type { RulerSample } from '../ruler/types.js';
import { stringMatchAll } from '../score.js';
import type { EvalEvent, EvalMethod, EvalRecord, ReceiptDigest } from './types.js';

/** What one record needs. */
export interface RecordRun {
  readonly model: Model;
  readonly method: EvalMethod;
  readonly policyDigest: string;
  readonly id: string;
  readonly sample: RulerSample;
  readonly tokens: Int32Array;
  readonly maxNewTokens: number;
  readonly strict: boolean;
  readonly signal?: AbortSignal;
}

/** Prefills and decodes one prompt greedily on a sequence of its own, and scores the answer. */
export async function* runRecord(run: RecordRun): AsyncGenerator<EvalEvent, EvalRecord, undefined> {
  const { model, method, sample, tokens, signal } = run;
  const abort = signal === undefined ? {} : { signal };
  const sequence = model.sequence({ policy: method.policy, strict: run.strict });
  try {
    await sequence.append(tokens, abort);
    // The engine compresses at the end of prefill; what the cache holds then is what the method is judged by.
    const prefilled = sequence.receipt();
    yield { type: 'prefilled', id: run.id, seconds: prefilled.seconds.prefill };
    let prediction = '';
    let newTokens = 0;
    for await (const event of sequence.generate({
      maxTokens: run.maxNewTokens,
      temperature: 0,
      ...abort,
    })) {
      prediction += event.text;
      newTokens++;
    }
    const receipt = sequence.receipt();
    const { seconds, tokens: counted } = receipt;
    return {
      id: run.id,
      task: sample.task,
      length: sample.length,
      sample: sample.index,
      method: method.name,
      policy: run.policyDigest,
      promptTokens: tokens.length,
      newTokens,
      prediction,
      references: sample.references,
      score: stringMatchAll(prediction, sample.references),
      prefillSeconds: seconds.prefill,
      decodeTokensPerSecond:
        counted.decode > 0 && seconds.decode > 0 ? counted.decode / seconds.decode : null,
      decodeSeconds: seconds.decode,
      decodeTokens: counted.decode,
      receipt: digestReceipt(prefilled, receipt),
    };
  } finally {
    sequence.dispose();
  }
}

/** Rows and bytes as of the end of prefill; fallbacks and kernels of the whole record. */
function digestReceipt(prefilled: Receipt, end: Receipt): ReceiptDigest {
  const { measuredBytes, arithmeticBytes, fullBytes } = prefilled.kv;
  const densities = (prefilled.prefill?.layers ?? []).flatMap(({ density }) => density);
  return {
    rowsIn: mean(prefilled.layers.flatMap((layer) => layer.rowsIn)),
    rowsStored: mean(prefilled.layers.flatMap((layer) => layer.rowsKept)),
    kv: { measuredBytes, arithmeticBytes, fullBytes },
    ...(densities.length > 0 && { density: mean(densities) }),
    fallbacks: end.fallbacks,
    kernels: end.kernels,
  };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
