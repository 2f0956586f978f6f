import { dtypeBytes, type DType } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import { planChunks, planTailChunks, type Chunk } from '../engine/chunks.js';
import type { PolicyParts } from '../engine/parts.js';
import { sumsReduce } from '../engine/signals.js';
import { BLOCK } from '../policy/prefill.js';

/** Equal sequences that go through the model together. */
export interface PassOutline {
  readonly spec: ModelSpec;
  readonly parts: PolicyParts;
  readonly dtype: DType;
  readonly sequences: number;
  /** New tokens of each. */
  readonly tokens: number;
  readonly chunkTokens: number;
}

/** Bytes of a scratch tensor of the engine, by name. */
export type ScratchBytes = ReadonlyMap<string, number>;

/** What a first prompt asks of the workspace (`batch.scratch` in engine/), by name. */
export function prefillWorkspace(pass: PassOutline): ScratchBytes {
  const { spec, parts, dtype, sequences, tokens } = pass;
  const sizes = new Sizes(dtype);
  const counted = parts.countsPrompt;
  const observed = Math.min(parts.observe, tokens);
  const chunks = allChunks(pass, Math.max(observed, 1));
  const longest = Math.max(...chunks.map(({ begin, end }) => end - begin));
  passTensors(sizes, spec, sequences * tokens, longest);
  if (sequences < sequences * tokens) sizes.add('picked', sequences * spec.hiddenSize);
  sizes.add('picked normed', sequences * spec.hiddenSize);
  if (counted) sizes.add('lse', longest * spec.heads, 'float32');
  const heads = sumsReduce(parts) === 'none' ? spec.heads : spec.kvHeads;
  for (let item = 0; item < sequences; item++) {
    const name = String(item);
    if (observed > 0) sizes.add(`observed ${name}`, observed * spec.heads * spec.headDim);
    if (counted) sizes.add(`column sums ${name}`, heads * tokens, 'float32');
  }
  if (parts.prefill !== undefined) {
    const words = chunks.flatMap(({ pieces, work }) =>
      pieces.map(({ begin, end, offset }) => {
        const m = end - begin;
        if (m < BLOCK || work === 'rows') return 0;
        return Math.ceil(m / BLOCK) * spec.heads * Math.ceil((offset + m) / (32 * BLOCK));
      }),
    );
    sizes.add('block mask', Math.max(0, ...words), 'int32');
  }
  return sizes.bytes;
}

/** Chunks of every layer but the last, as forwardPass plans them. */
export function layerChunks({ parts, sequences, tokens, chunkTokens }: PassOutline): Chunk[] {
  const lengths = new Array<number>(sequences).fill(tokens);
  return planChunks(lengths, chunkTokens, gridsOf(parts, sequences));
}

/** The same with those of the last layer. @param tail rows whose output somebody reads */
function allChunks(pass: PassOutline, tail: number): Chunk[] {
  const { spec, parts, sequences, tokens, chunkTokens } = pass;
  const each = <T>(value: T): T[] => new Array<T>(sequences).fill(value);
  const grids = gridsOf(parts, sequences);
  const counted = each(parts.countsPrompt);
  const last = planTailChunks(each(tokens), each(tail), counted, chunkTokens, grids);
  return spec.layers === 1 ? last : [...layerChunks(pass), ...last];
}

/** A first prompt begins with a block. */
function gridsOf(parts: PolicyParts, sequences: number): (0 | undefined)[] {
  return new Array<0 | undefined>(sequences).fill(parts.prefill === undefined ? undefined : 0);
}

/** What decode steps ask of the workspace; prompts and steps have tensors of their own. */
export function decodeWorkspace(pass: Omit<PassOutline, 'tokens' | 'chunkTokens'>): ScratchBytes {
  const { spec, parts, dtype, sequences } = pass;
  const sizes = new Sizes(dtype);
  passTensors(sizes, spec, sequences, sequences);
  sizes.add('picked normed', sequences * spec.hiddenSize);
  sizes.add('logits', sequences * spec.vocabSize, 'float32');
  // Attention over encoded rows is not counted.
  const encodes = parts.codec !== undefined || parts.channels !== undefined;
  if (parts.countsDecode && !encodes) sizes.add('lse', sequences * spec.heads, 'float32');
  return sizes.bytes;
}

/** Tensors of all rows of a pass, and those that its chunks share. */
function passTensors(sizes: Sizes, spec: ModelSpec, rows: number, chunk: number): void {
  const { heads, kvHeads, headDim, hiddenSize, intermediateSize, rotaryDim } = spec;
  sizes.add('positions', rows, 'int32');
  sizes.add('ids', rows, 'int32');
  sizes.add('hidden', rows * hiddenSize);
  sizes.add('rope', rows * rotaryDim, 'float32');
  sizes.add('normed', chunk * hiddenSize);
  for (const name of ['q', 'attended']) sizes.add(name, chunk * heads * headDim);
  for (const name of ['k', 'v']) sizes.add(name, chunk * kvHeads * headDim);
  sizes.add('inner', chunk * intermediateSize);
}

class Sizes {
  readonly bytes: Map<string, number> = new Map<string, number>();
  readonly #dtype: DType;

  constructor(dtype: DType) {
    this.#dtype = dtype;
  }

  add(name: string, elements: number, dtype: DType = this.#dtype): void {
    if (elements > 0) this.bytes.set(name, elements * dtypeBytes(dtype));
  }
}
