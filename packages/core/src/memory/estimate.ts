import { AccelError, dtypeBytes } from '@accel/kernels';
import type { FloatDType } from '../config/spec.js';
import { defaultChunkTokens, pageBytesOf } from '../engine/defaults.js';
import { PolicyParts } from '../engine/parts.js';
import type { Blueprint } from '../models/family.js';
import { full, type Policy } from '../policy/compose.js';
import type { TensorInfo } from '../weights/header.js';
import { driverBytes, heapBytes, poolBytes, type MemoryTarget } from './device.js';
import { forecastKv, type KvForecast } from './kv.js';
import { scratchArena } from './scratch.js';
import { weightOutlines, type WeightOutline } from './weights.js';
import { decodeWorkspace, prefillWorkspace, type PassOutline } from './workspace.js';

/** What {@link estimateMemory} is asked. */
export interface MemoryQuestion {
  /** Tokens of each prompt. */
  readonly tokens: number;
  /** Default {@link full}. */
  readonly policy?: Policy;
  /** Sequences at a time. Default 1. */
  readonly batch?: number;
  /**
   * All prompts are read together, as `appendBatch` does; else one after the other, which needs less scratch memory and one
   * prompt's whole layer at a time. Default true.
   */
  readonly together?: boolean;
  /** Tokens that each sequence decodes. Default 256, that of `generate`. */
  readonly decodeTokens?: number;
  /** Format of activations, cache and weights. Default: the checkpoint's. */
  readonly dtype?: FloatDType;
  /** Where it runs. Default the CPU. */
  readonly target?: MemoryTarget;
  /** As in `loadModel`. Default 512, on a GPU 8192. */
  readonly chunkTokens?: number;
  /** How the checkpoint holds its tensors, {@link ModelDescription.stored}. Default: in `dtype`. */
  readonly stored?: (tensor: string) => Pick<TensorInfo, 'dtype' | 'byteLength'> | undefined;
}

/** Bytes of a model at work, by what they are for. */
export interface MemoryEstimate {
  /** Weights in the compute format, tied embeddings once. */
  readonly weights: number;
  /** The largest weight that is converted while it is loaded, in the checkpoint's format; on a GPU only. */
  readonly loading: number;
  readonly kv: KvEstimate;
  readonly workspace: WorkspaceEstimate;
  /** The driver's own; undefined for a card that nobody has measured, and then not part of `total`. */
  readonly driver: number | undefined;
  /** The most at any time. */
  readonly total: number;
}

/** Bytes of the caches of all sequences. */
export interface KvEstimate {
  /** The most that pages take: while a prompt is read one layer is whole and in it, rows are there twice for a moment. */
  readonly peak: number;
  /** Pages when all prompts have been read. */
  readonly afterPrompt: number;
  /** Pages when all tokens have been decoded. */
  readonly afterDecode: number;
  /** What one more decoded token adds to one sequence, on average over many. */
  readonly perToken: number;
  /** Lists of pages on a GPU. */
  readonly tables: number;
}

/** Bytes that are neither weights nor cache. */
export interface WorkspaceEstimate {
  /** Activations of prompts and decode steps: what `Workspace` holds. */
  readonly tensors: number;
  /** Logits, scores of rows, and what parts keep for themselves. */
  readonly temporary: number;
  /** Scratch memory of ops on a GPU. */
  readonly scratch: number;
  /** What a GPU process keeps of scratch blocks that proved too small, and gives back when memory is short. */
  readonly idle: number;
}

/**
 * What loading and running a model takes, without loading it: arithmetic over the spec and the policy. Pages and activations
 * are exact; CakeKV's shares of layers depend on the prompt, and their sum is taken.
 * @throws AccelError `ERR_ACCEL_POLICY` when a part of the policy does not say what it keeps or does not go with the model,
 *   `ERR_ACCEL_ARGUMENT` for numbers that are out of range
 * @example
 * const { spec, layout } = await readModelConfig(path);
 * const { total } = estimateMemory({ spec, layout }, { tokens: 131072, target: { kind: 'cuda', isa: 'sm_90' } });
 */
export function estimateMemory(blueprint: Blueprint, question: MemoryQuestion): MemoryEstimate {
  const { spec } = blueprint;
  const { policy = full, together = true, target = { kind: 'cpu' } } = question;
  const { tokens, batch = 1, decodeTokens = 256, dtype = spec.dtype } = question;
  const { kind } = target;
  const chunkTokens = question.chunkTokens ?? defaultChunkTokens(kind);
  const counts = { tokens, batch, chunkTokens };
  for (const [name, value] of Object.entries(counts)) assertCount(name, value, 1);
  assertCount('decodeTokens', decodeTokens, 0);
  const parts = new PolicyParts(policy);
  const pageBytes = pageBytesOf(spec, dtype);
  const prompt = { spec, dtype, tokens, chunkTokens };
  const kv = forecastKv({
    spec,
    parts,
    dtype,
    prompt,
    batch,
    together,
    decodeTokens,
    pageBytes,
  });
  const sequences = together ? batch : 1;
  const pass: PassOutline = { spec, parts, dtype, sequences, tokens, chunkTokens };
  const tables = kind === 'cpu' ? 0 : tableBytes(kv, batch);
  const weights = weightOutlines(blueprint).map((weight) => ({
    ...weight,
    bytes: weight.size * dtypeBytes(dtype),
  }));
  const weightBytes = heapBytes(
    kind,
    weights.map(({ bytes }) => bytes),
  );
  const loading = kind === 'cpu' ? 0 : conversionBytes(question, weights, dtype);
  const workspace = workspaceOf(pass, batch, decodeTokens, target);
  const driver = driverBytes(target);
  const peak = poolBytes(kind, kv.peak);
  const running =
    peak + tables + workspace.tensors + workspace.temporary + workspace.scratch + workspace.idle;
  const { afterPrompt, afterDecode, perToken } = kv;
  return {
    weights: weightBytes,
    loading,
    kv: { peak, afterPrompt, afterDecode, perToken, tables },
    workspace,
    driver,
    total: weightBytes + Math.max(loading, running) + (driver ?? 0),
  };
}

/** A weight in another format than that of the model is on a GPU in both while it is converted. */
function conversionBytes(
  { stored }: MemoryQuestion,
  weights: readonly WeightOutline[],
  dtype: FloatDType,
): number {
  const bytes = weights.map(({ source }) => {
    const info = stored?.(source);
    return info === undefined || info.dtype === dtype ? 0 : info.byteLength;
  });
  return Math.max(0, ...bytes);
}

function workspaceOf(
  pass: PassOutline,
  batch: number,
  decodeTokens: number,
  target: MemoryTarget,
): WorkspaceEstimate {
  const { spec, parts, dtype, sequences, tokens, chunkTokens } = pass;
  const { kind } = target;
  const prefill = prefillWorkspace(pass);
  const steps = decodeTokens === 0 ? new Map() : decodeWorkspace({ ...pass, sequences: batch });
  const arena =
    kind === 'cpu' ? undefined : scratchArena(pass, decodeTokens === 0 ? 0 : batch, target);
  // A row of logits stays with every sequence.
  const logits = 4 * spec.vocabSize * batch;
  const own = parts.select?.scratchBytes?.({ spec, dtype, tokens, chunkTokens }) ?? 0;
  return {
    tensors: heapBytes(kind, [...prefill.values(), ...steps.values()]),
    temporary: heapBytes(kind, [logits, ...scoreBytes(pass), sequences * own]),
    scratch: arena?.bytes ?? 0,
    idle: arena?.idle ?? 0,
  };
}

/** Scores of a layer's rows, pooled and not, and the numbers of those that stay; a budget part has all layers' to the end. */
function scoreBytes({ spec, parts, tokens, sequences }: PassOutline): number[] {
  if (parts.select === undefined) return [];
  const layer = 4 * spec.kvHeads * tokens;
  return [layer, layer, layer, ...(parts.budget === undefined ? [] : [layer * sequences])];
}

/** 4 bytes for every page, and an eighth more for the pages to come (kernels/src/common/kv_sequence.cc). */
function tableBytes({ layerPages }: KvForecast, batch: number): number {
  const pages = layerPages.reduce((sum, count) => sum + count, 0);
  return heapBytes('cuda', new Array<number>(batch).fill(4.5 * pages));
}

function assertCount(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `${name} is ${value}; give a whole number of at least ${least}.`,
  );
}
