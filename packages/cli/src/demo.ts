import { formatTable, rulerConfig, type EvalSummary, type SummaryAverage } from '@accel/eval';
import { finished, runWithProgress } from './eval/evaluate.js';
import { formatBytes, formatLength, formatRate, formatSeconds } from './format.js';
import type { Io } from './io.js';
import { resolvePolicies, type MethodConfigs } from './methods/policy.js';
import { openModel } from './model.js';
import { outputFolder, type OutputChoice } from './output-folder.js';
import { colorsFor } from './ui/colors.js';
import { parseDevice, type DtypeName } from './values.js';

/** What of the command line the demo heeds. */
export interface DemoOptions extends OutputChoice {
  readonly device?: string[];
  readonly torchDtype: DtypeName;
}

/** Rows a compressed cache may keep for each layer and head. */
const BUDGET = 512;
/** The whole evaluation stays below this, in seconds. */
const TIME_LIMIT = 180;
/** Share of the limit that is planned with; the rest is for what estimates miss. */
const PLANNED_SHARE = 0.85;
const MAX_SAMPLES = 8;

/** One needle, one of four, four answers to collect, a chain to follow: easy to hard for a compressed cache. */
const TASKS = ['niah_single_2', 'niah_multikey_1', 'niah_multivalue', 'vt'];

/**
 * Both methods at the same budget; otherwise as their papers have it but for SnapKV's pool. In the embedded model's
 * vocabulary a seven-digit number is seven tokens, and the end of the prompt looks at the first of them only: votes
 * must spread that far. The published pool of 7 keeps half a number (niah_single_2 at 4K: 0 instead of 100).
 */
const CONFIGS: MethodConfigs = new Map([
  ['streamingllm', { sink: 4, budget: { tokens: BUDGET } }],
  ['snapkv', { budget: { tokens: BUDGET }, pool: { kind: 'max', size: 15 } }],
]);

/**
 * `accel eval --demo`: the embedded model at 4K, and at 8K where that fits the time limit.
 *
 * One sample of each task at 4K is run first; its time decides how many samples follow and whether 8K does.
 * The decision is printed. Those first records are part of the result.
 */
export async function runDemo(io: Io, options: DemoOptions): Promise<void> {
  const methods = await resolvePolicies(['full', 'StreamingLLM', 'SnapKV'], CONFIGS);
  const output = await outputFolder(options, 'demo');
  const colors = colorsFor(io.stderr, io.env);
  const device = parseDevice(options.device);
  using model = await openModel(io, { device, dtype: options.torchDtype });
  io.stderr.write(
    `${colors.bold('Demo')}: RULER on the embedded ${model.spec.name} (${model.dtype}, ${model.device.info.name}). ` +
      `Full attention beside two methods that keep ${BUDGET} rows of each head's cache.\n`,
  );
  const settings = { model, methods, output, strict: true };
  const config = rulerConfig({ tasks: TASKS, lengths: [4096], samples: 1, workedExample: false });
  const first = await runWithProgress(io, { ...settings, config, label: 'measuring 4K' });
  const { lengths, samples, reason } = planDemo(first);
  io.stderr.write(`${reason}\n`);
  const whole = { ...config, lengths, samples };
  const summary = await runWithProgress(io, { ...settings, config: whole, label: 'demo' });
  io.stdout.write(`\n${formatTable(summary)}\n\n${explain(summary)}\n`);
  io.stderr.write(finished(io, summary, output));
}

/** How much the demo runs. */
export interface DemoPlan {
  readonly lengths: readonly number[];
  readonly samples: number;
  /** The decision in a sentence. */
  readonly reason: string;
}

/** Reading a prompt twice as long: 3.2 times measured; 4 would be attention alone, which grows with the square. */
const PREFILL_GROWTH = 3.4;
/** Making the prompt and decoding behind it. */
const REST_GROWTH = 2;

/**
 * Decides from one sample of each task at 4K. Having 8K in the table comes before more samples at 4K.
 *
 * @param first summary of a run with one sample of each task at 4K
 */
export function planDemo(first: EvalSummary): DemoPlan {
  const round4K = first.seconds;
  const prefill = first.cells.reduce(
    (sum, { n, prefillSeconds }) => sum + n * (prefillSeconds ?? 0),
    0,
  );
  const round8K = PREFILL_GROWTH * prefill + REST_GROWTH * Math.max(0, round4K - prefill);
  const measured = `One sample of each task took ${formatSeconds(round4K)} at 4K`;
  const limit = `the limit of ${TIME_LIMIT / 60} minutes`;
  const both = rounds(round4K + round8K);
  if (both >= 1) {
    return {
      lengths: [4096, 8192],
      samples: both,
      reason: `${measured}: 8K fits ${limit} too, with ${samplesOf(both)}.`,
    };
  }
  const samples = Math.max(1, rounds(round4K));
  return {
    lengths: [4096],
    samples,
    reason:
      `${measured}: 8K would not fit ${limit}, so only 4K is run, with ${samplesOf(samples)}. ` +
      'For 8K: accel eval --lengths 8k --acceleration full,StreamingLLM,SnapKV',
  };
}

/** Rounds of so many seconds that fit. */
function rounds(seconds: number): number {
  return Math.min(MAX_SAMPLES, Math.floor((PLANNED_SHARE * TIME_LIMIT) / seconds));
}

function samplesOf(count: number): string {
  return `${count} sample${count === 1 ? '' : 's'} of each task`;
}

/** What the table shows and what it does not, from its own numbers. */
export function explain(summary: EvalSummary): string {
  const longest = Math.max(...summary.averages.map(({ length }) => length ?? 0));
  const cellOf = (method: string): SummaryAverage | undefined =>
    summary.averages.find((cell) => cell.method === method && cell.length === longest);
  const [fullCell, streaming, snap] = [cellOf('full'), cellOf('StreamingLLM'), cellOf('SnapKV')];
  if (fullCell === undefined || streaming === undefined || snap === undefined) return '';
  const score = (cell: SummaryAverage) => (cell.score ?? NaN).toFixed(0);
  const bytes = (cell: SummaryAverage) => cell.kv?.measuredBytes ?? NaN;
  const fold = (cell: SummaryAverage) => (bytes(fullCell) / bytes(cell)).toFixed(1);
  return [
    'How to read it',
    `  Score is the share of right answers found in the output, 0 to 100, with its standard error over ${fullCell.n} prompts`,
    '  a row: differences of less than about two errors mean nothing. Kept rows and KV bytes were measured after',
    '  the prompt was read, not computed; the memory is really given back.',
    `  At ${formatLength(longest)}, full attention scores ${score(fullCell)} with ${formatBytes(bytes(fullCell))} of cache.`,
    `  StreamingLLM keeps the first tokens and the newest ones: ${score(streaming)} with a cache ${fold(streaming)} times smaller. Whatever`,
    '  stood in the middle of the prompt is gone, so it finds needles only by luck; it is made for endless',
    '  streams, not for search.',
    `  SnapKV keeps the rows that the end of the prompt attends to: ${score(snap)} with a cache ${fold(snap)} times smaller. It can do that`,
    '  because the question stands last; ask something else afterwards and the rows for it may be gone. Its votes',
    '  are spread over 15 neighbours here, not 7 as published: to this model each digit of a number is a token.',
    '  Both read the whole prompt with full attention and compress afterwards, so reading it takes as long; what',
    `  they save is memory, and time for each new token: ${rates(fullCell, snap)} with this small model.`,
    '  Times are wall clock, so whatever else the machine did is in them.',
    `  ${summary.settings.model} is a model made for this test with 7 million parameters. Its scores say how methods compare, not`,
    '  how large models do.',
  ].join('\n');
}

/** `120 tok/s become 250` */
function rates(before: SummaryAverage, after: SummaryAverage): string {
  const [slow, fast] = [before.decodeTokensPerSecond, after.decodeTokensPerSecond];
  if (slow === null || fast === null) return 'too few tokens to tell';
  return `${formatRate(slow)} tokens a second become ${formatRate(fast)}`;
}
