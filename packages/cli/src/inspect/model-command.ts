import { describeModel, type FloatDType } from '@accel/core';
import { UsageError } from '../errors.js';
import type { Io } from '../io.js';
import { parseConfigs, resolvePolicies } from '../methods/policy.js';
import { modelPath } from '../model.js';
import { colorsFor } from '../ui/colors.js';
import { parseLengths, splitList, type DtypeName } from '../values.js';
import { parseCard, presentCard } from './cards.js';
import { modelFacts, renderFacts } from './describe.js';
import { estimateGrid } from './memory.js';
import { renderCaches, renderMemory, renderNotes } from './memory-tables.js';
import { toJson } from './model-json.js';

/** What `accel inspect` of a model needs to know. */
export interface ModelCliOptions {
  /** Model; default the embedded one. */
  readonly path: string | undefined;
  readonly card?: string;
  readonly contexts?: string;
  readonly policies: string;
  readonly batch: string;
  readonly config?: string[];
  readonly torchDtype: DtypeName;
  readonly json?: boolean;
}

/** Policies that are estimated unless some are named. */
export const DEFAULT_POLICIES =
  'full,SnapKV,H2O,StreamingLLM,PyramidKV,CakeKV,ThinK,KIVI,SnapKV+KIVI';
const DEFAULT_CONTEXTS = [4096, 16384, 32768, 65536, 131072];

/** `accel inspect <model>`: what a model is and what memory it takes, from headers alone. */
export async function inspectModel(io: Io, options: ModelCliOptions): Promise<void> {
  const card = options.card === undefined ? presentCard() : parseCard(options.card);
  const batches = parseBatches(options.batch);
  const policies = await resolvePolicies([options.policies], parseConfigs(options.config ?? []));
  const model = await describeModel(await modelPath(io, options.path));
  const { spec } = model.blueprint;
  const dtype: FloatDType = options.torchDtype === 'auto' ? spec.dtype : options.torchDtype;
  const contexts =
    options.contexts === undefined
      ? defaultContexts(spec.contextLength)
      : parseLengths([options.contexts]);
  const grid = { card, dtype, contexts, batches, policies };
  const results = estimateGrid(model, grid);
  if (options.json === true) {
    io.stdout.write(`${JSON.stringify(toJson(model, grid, results), null, 2)}\n`);
    return;
  }
  const colors = colorsFor(io.stdout, io.env);
  io.stdout.write(renderFacts(modelFacts(model), colors.bold));
  for (const batch of batches) io.stdout.write(renderMemory(grid, results, batch, colors));
  io.stdout.write(renderCaches(grid, results, colors));
  io.stdout.write(colors.dim(renderNotes(grid, results, spec.contextLength)));
}

/** Lengths up to what the model was made for, and that itself. */
function defaultContexts(contextLength: number): number[] {
  return [...DEFAULT_CONTEXTS.filter((context) => context < contextLength), contextLength];
}

function parseBatches(text: string): number[] {
  return splitList([text]).map((word) => {
    const batch = Number(word);
    if (Number.isSafeInteger(batch) && batch >= 1) return batch;
    throw new UsageError(`--batch takes numbers of sequences, such as 1,8, not "${word}".`);
  });
}
