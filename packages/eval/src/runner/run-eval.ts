import { join } from 'node:path';
import { AccelError } from '@accel/core';
import { openBenchmark } from '../benchmark/open.js';
import type { Benchmark } from '../benchmark/types.js';
import { modelExecutor } from '../execute/model.js';
import type { PromptOptions } from '../prompt/format.js';
import { PromptMaker, type PromptSource } from '../prompt/maker.js';
import { canUseThread, PromptThread } from '../prompt/thread.js';
import { formatAverageCsv, formatCsv } from '../report/csv.js';
import { summarise, type EvalSummary } from '../report/summary.js';
import { makeBatches, type Batch } from './batches.js';
import { Channel } from './channel.js';
import { writeWhole } from './files.js';
import { OpenRun } from './open-run.js';
import { makePlan, type Plan } from './plan.js';
import { pooled } from './pooled.js';
import type { RunRecord } from './records.js';
import { assertActed } from './strict.js';
import { modelSubject, type Subject } from './subject.js';
import { absentRecord, toRecord } from './to-record.js';
import type { EvalEvent, EvalOptions } from './types.js';

/**
 * Runs a benchmark under several methods. With `output`, every finished record is on disk before it is reported, and a
 * later call with the same settings runs only what is missing or failed: more samples, tasks, lengths, modes or methods may
 * be added, and the process may be killed at any moment. The order of results does not depend on the order of the work.
 *
 * @throws AccelError ERR_ACCEL_CONFIG for settings that cannot be used or a record file of another run,
 * ERR_ACCEL_PROMPT_TOO_LONG for lengths beyond the model's window, ERR_ACCEL_BUSY when another process writes the run,
 * ERR_ACCEL_STRICT in strict mode, ERR_ACCEL_ABORTED after `signal`, and what the engine throws
 *
 * @example
 * const config = rulerConfig({ lengths: [4096], samples: 5 });
 * for await (const event of runEval({ model, config, methods: [{ name: 'full', policy: full }] })) {
 *   if (event.type === 'end') console.log(formatTable(event.summary));
 * }
 */
export async function* runEval(options: EvalOptions): AsyncGenerator<EvalEvent, void, undefined> {
  throwIfAborted(options.signal);
  const subject = 'model' in options ? await modelSubject(options.model) : options.subject;
  // Starts first: it opens the benchmark too, at the same time.
  await using thread = promptThread(options, subject);
  const benchmark = options.benchmark ?? (await openBenchmark(options.config));
  const plan = makePlan(options, benchmark, subject);
  await using run = await OpenRun.open(options, plan, subject, benchmark);
  yield { type: 'start', resumed: run.resumed, progress: run.progress };
  if (run.missing.length > 0) {
    const source = thread ?? new PromptMaker(benchmark, subject, promptOptions(options));
    yield* work({ options, plan, benchmark, run, source });
  }
  const records = await run.finish();
  const summary = summarise(run.log.file, records);
  if (options.output !== undefined) await writeSummary(options.output, summary);
  if (options.strict === true) assertActed(records);
  yield { type: 'end', summary };
}

/** What the work on the missing records needs. */
interface Work {
  readonly options: EvalOptions;
  readonly plan: Plan;
  readonly benchmark: Benchmark;
  readonly run: OpenRun;
  readonly source: PromptSource;
}

/** Makes the missing records; leaving the iteration stops the work and waits until it has stopped. */
async function* work(work: Work): AsyncGenerator<EvalEvent, void, undefined> {
  const { options } = work;
  const leaving = new AbortController();
  const signal = AbortSignal.any([
    leaving.signal,
    ...(options.signal === undefined ? [] : [options.signal]),
  ]);
  const events = new Channel<EvalEvent>();
  const working = makeRecords(work, signal, (event) => events.send(event)).then(
    () => events.end(),
    (error: unknown) => events.fail(error),
  );
  try {
    yield* events;
  } finally {
    leaving.abort();
    await working;
  }
}

async function makeRecords(
  { options, plan, benchmark, run, source }: Work,
  signal: AbortSignal,
  emit: (event: EvalEvent) => void,
): Promise<void> {
  const executor = 'model' in options ? modelExecutor(options) : options.executor;
  const policyOf = (method: string): string => run.policies.get(method) ?? '';
  const keep = async (records: readonly RunRecord[]): Promise<void> => {
    await run.add(records);
    for (const record of records) emit({ type: 'record', record, progress: run.progress });
  };
  const batches = makeBatches(plan, run.missing, source, executor.batchSize, {
    prepared: (task, prepared) => run.log.specimen(task, plan.modes, prepared),
    absent: (items) => keep(items.map((item) => absentRecord(item, policyOf(item.method)))),
  });
  let specimens = run.log.file.prompts;
  await pooled(batches, executor.slots, async (batch) => {
    throwIfAborted(signal);
    if (specimens !== run.log.file.prompts) {
      specimens = run.log.file.prompts;
      await run.log.save();
    }
    emit(startOf(batch));
    const outcomes = await executor.run(
      batch.entries.map(({ job }) => job),
      { signal, onPrefilled: (id, seconds) => emit({ type: 'prefilled', id, seconds }) },
    );
    await keep(
      batch.entries.map((entry, i) =>
        toRecord(benchmark, entry, policyOf(batch.method), required(outcomes[i])),
      ),
    );
  });
}

function startOf({ task, mode, method, entries }: Batch): EvalEvent {
  const turns = entries.flatMap(({ job }) => job.prompt.turns);
  return {
    type: 'batch',
    task: task.name,
    length: task.length ?? null,
    mode,
    method,
    samples: entries.map(({ item }) => item.sample),
    promptTokens: turns.reduce((sum, { ids }) => sum + ids.length, 0),
  };
}

function required<T>(outcome: T | undefined): T {
  if (outcome !== undefined) return outcome;
  throw new AccelError('ERR_ACCEL_INTERNAL', 'An executor returned fewer outcomes than jobs.');
}

/** Prompts are made on another thread, except from a benchmark that only this one has. */
function promptThread(options: EvalOptions, subject: Subject): PromptThread | undefined {
  if (!canUseThread || options.benchmark !== undefined) return undefined;
  return new PromptThread({
    config: options.config,
    modelPath: subject.path,
    contextLength: subject.spec.contextLength,
    options: promptOptions(options),
  });
}

function promptOptions({ config, maxLength }: EvalOptions): PromptOptions {
  const { template, noTemplateTasks } = config;
  return { template, noTemplateTasks, maxLength };
}

async function writeSummary(folder: string, summary: EvalSummary): Promise<void> {
  await writeWhole(join(folder, 'summary.json'), `${JSON.stringify(summary, null, 1)}\n`);
  await writeWhole(join(folder, 'summary.csv'), formatCsv(summary));
  await writeWhole(join(folder, 'average_summary.csv'), formatAverageCsv(summary));
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new AccelError(
    'ERR_ACCEL_ABORTED',
    'The evaluation was stopped. Finished records are kept; run it again to continue.',
    { cause: signal.reason },
  );
}
