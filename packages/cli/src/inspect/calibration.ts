import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { BLOCK, type Model } from '@accel/core';
import type * as xattentionPackage from '@accel/xattention';
import type { Stride, ThresholdPlan } from '@accel/xattention';
import { UsageError } from '../errors.js';
import { profileText } from './profile.js';
import { readText } from './texts.js';

/** The package whose thresholds these are. */
type Xattention = typeof xattentionPackage;

/** A text to calibrate with, cut into prompts. */
export interface CalibrationText {
  readonly path: string;
  readonly sha256: string;
  readonly pieces: readonly Int32Array[];
}

/** What is to be found. */
export interface CalibrationSettings {
  readonly stride: Stride;
  /** Share of a row's attention that its blocks must hold. */
  readonly coverage: number;
  /** Tokens of a piece. */
  readonly tokens: number;
}

/**
 * Reads texts and cuts them into pieces of `tokens` tokens. What is left at the end counts when it is at least half a piece,
 * or all there is: the few rows of a short prompt ask for nearly every block and would set the maximum alone.
 *
 * @throws AccelError ERR_ACCEL_FILE, UsageError for a text of fewer than 256 tokens
 */
export async function readCalibrationTexts(
  model: Model,
  paths: readonly string[],
  tokens: number,
): Promise<CalibrationText[]> {
  const texts: CalibrationText[] = [];
  for (const path of paths) {
    const text = await readText(path);
    const ids = model.tokenizer.encode(text, { addSpecial: true });
    if (ids.length < 2 * BLOCK) {
      throw new UsageError(
        `${path} has ${ids.length} tokens. There is nothing to choose below ${2 * BLOCK}; give a longer text.`,
      );
    }
    const pieces: Int32Array[] = [];
    for (let from = 0; from < ids.length; from += tokens) {
      const piece = ids.slice(from, from + tokens);
      if (from === 0 || 2 * piece.length >= tokens) pieces.push(piece);
    }
    texts.push({ path, sha256: createHash('sha256').update(text).digest('hex'), pieces });
  }
  return texts;
}

/**
 * Finds a threshold for every layer and head by the authors' recipe: of each piece, the share of XAttention's estimates that
 * lies in blocks needed for `coverage` of the true attention; of all pieces the largest.
 *
 * @param onLayer called when a layer of a piece is done
 */
export async function findThresholds(
  model: Model,
  xattention: Xattention,
  texts: readonly CalibrationText[],
  { stride, coverage }: CalibrationSettings,
  { signal, onLayer }: { signal?: AbortSignal; onLayer?: () => void } = {},
): Promise<number[][]> {
  const { layers, heads } = model.spec;
  const most = Array.from({ length: layers }, () => new Array<number>(heads).fill(0));
  for (const piece of texts.flatMap(({ pieces }) => pieces)) {
    const profiles = await profileText(model, piece, xattention.xattentionBlocks, stride, {
      ...(signal !== undefined && { signal }),
      onProgress: () => onLayer?.(),
    });
    for (const [layer, profile] of profiles.entries()) {
      const found = xattention.thresholdFromSums({ ...profile, coverage });
      most[layer] = (most[layer] ?? []).map((value, head) => Math.max(value, found[head] ?? NaN));
    }
  }
  // Four digits, upwards: what is read back covers no less.
  return most.map((row) => row.map((value) => Math.min(1, Math.ceil(value * 1e4) / 1e4)));
}

/** The document, with where its numbers come from. */
export function planOf(
  { spec, dtype, device }: Model,
  thresholds: readonly (readonly number[])[],
  texts: readonly CalibrationText[],
  { stride, coverage, tokens }: CalibrationSettings,
  made: { readonly date: string; readonly versions: string },
): ThresholdPlan {
  const sources = texts.map(({ path, sha256, pieces }) => {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    return `${basename(path)} (${length} tokens, sha256 ${sha256})`;
  });
  return {
    schema: 'accel.xattention.thresholds/1',
    model: { name: spec.name, layers: spec.layers, heads: spec.heads },
    stride,
    thresholds,
    coverage,
    provenance:
      `accel calibrate xattention on ${made.date}: maximum over pieces of up to ${tokens} tokens of ${sources.join(', ')}; ` +
      `dense prefill in ${dtype} on ${device.info.kind}; ${made.versions}`,
  };
}
