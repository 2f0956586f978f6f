import { basename, dirname, relative } from 'node:path';
import {
  formatTable,
  isFailed,
  runEval,
  type EvalEvent,
  type EvalOptions,
  type EvalSummary,
} from '@accel/eval';
import type { Io } from '../io.js';
import { formatLength, formatSeconds } from '../format.js';
import { colorsFor } from '../ui/colors.js';
import { Progress } from '../ui/progress.js';

/** A run with its progress on standard error. */
export type RunSettings = EvalOptions & {
  /** In front of the bar; default `eval`. */
  readonly label?: string;
};

/** Prefill is the larger part of a record's time at these lengths; the bar moves this far when it is done. */
const PREFILL_SHARE = 0.8;

/**
 * Runs an evaluation with a live bar and time to go.
 *
 * @returns the summary of the run
 * @throws what {@link runEval} throws; the bar is removed first
 */
export async function runWithProgress(io: Io, settings: RunSettings): Promise<EvalSummary> {
  const { label = 'eval', ...options } = settings;
  let progress: Progress | undefined;
  let ticker: NodeJS.Timeout | undefined;
  let running = { tokens: 0, done: 0, failed: 0, length: 0 };
  try {
    for await (const event of runEval({ ...options, signal: io.signal })) {
      switch (event.type) {
        case 'start': {
          const { done, total, tokensDone, tokensTotal } = event.progress;
          progress = new Progress(io.stderr, {
            label,
            total: tokensTotal,
            colors: colorsFor(io.stderr, io.env),
            format: () =>
              `${running.done}/${total}${running.failed > 0 ? `, ${running.failed} failed` : ''}`,
          });
          running = { tokens: tokensDone, done, failed: 0, length: 0 };
          progress.replayed(tokensDone);
          const shown = progress;
          // Seconds go on counting while a long prompt is read.
          ticker = setInterval(() => shown.tick(), 500).unref();
          break;
        }
        case 'batch':
          running = { ...running, length: event.length ?? 0 };
          progress?.update(running.tokens, describe(event));
          break;
        case 'prefilled':
          progress?.update(running.tokens + PREFILL_SHARE * running.length);
          break;
        case 'record':
          running = {
            ...running,
            tokens: event.progress.tokensDone,
            done: event.progress.done,
            failed: running.failed + (isFailed(event.record) ? 1 : 0),
          };
          progress?.update(running.tokens);
          break;
        case 'end':
          return event.summary;
      }
    }
  } finally {
    clearInterval(ticker);
    progress?.close();
  }
  throw new Error('the evaluation ended without a summary');
}

/** What `accel eval` does: run, then print the table. */
export async function evaluate(
  io: Io,
  settings: RunSettings & { byTask?: boolean },
): Promise<EvalSummary> {
  const { byTask = false, ...run } = settings;
  let summary: EvalSummary;
  try {
    summary = await runWithProgress(io, run);
  } catch (error) {
    if (io.signal.aborted && run.output !== undefined) io.stderr.write(continueHint(run.output));
    throw error;
  }
  io.stdout.write(`${formatTable(summary, { byTask })}\n`);
  for (const note of idleNotes(summary)) io.stderr.write(`${note}\n`);
  return summary;
}

/** Results under the name of a method that never did anything are those of full attention: say so. */
function idleNotes({ totals }: EvalSummary): string[] {
  return totals.flatMap(({ method, mode, acted, promptTokens }) => {
    const idle = Object.entries(acted ?? {}).flatMap(([part, times]) => (times === 0 ? part : []));
    if (idle.length === 0) return [];
    return [
      `Note: under ${method} (${mode}) ${idle.join(', ')} never acted on prompts of ${Math.round(promptTokens ?? 0)} tokens; --strict makes this an error.`,
    ];
  });
}

/** The line under a table: time and files. */
export function finished(
  io: Io,
  summary: EvalSummary,
  output: string | undefined,
  files = 'Records, run.json and summary.json',
): string {
  const colors = colorsFor(io.stderr, io.env);
  const place =
    output === undefined ? '' : ` ${files} are in ${relative(process.cwd(), output) || '.'}.`;
  return colors.dim(`Took ${formatSeconds(summary.seconds)}.${place}`) + '\n';
}

/** What to type to go on after Ctrl-C. */
function continueHint(output: string): string {
  const folder = relative(process.cwd(), dirname(output)) || '.';
  return `Finished records are kept. Continue with: --output-dir ${folder} --save-tag ${basename(output)} --resume\n`;
}

function describe(event: Extract<EvalEvent, { type: 'batch' }>): string {
  const { task, length, samples, mode, method } = event;
  const [first = 0] = samples;
  const last = samples.at(-1) ?? first;
  const which = samples.length === 1 ? `#${first + 1}` : `#${first + 1}-${last + 1}`;
  const how = mode === 'query-aware' ? '' : ` ${mode}`;
  return `${task}${length === null ? '' : ` ${formatLength(length)}`} ${which} ${method}${how}`;
}
