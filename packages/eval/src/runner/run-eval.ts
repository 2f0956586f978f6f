import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { AccelError } from '@accel/core';
import { sampleSteps } from '../ruler/generate.js';
import { loadSources } from '../ruler/sources.js';
import type { RulerSample } from '../ruler/types.js';
import { writeWhole } from './files.js';
import { policyFingerprint, runSettings } from './fingerprint.js';
import type { Plan, PlanCell } from './plan.js';
import { makePlan } from './plan.js';
import { promptFormat } from './prompt.js';
import { RecordFile } from './record-file.js';
import { formatCsv } from './report.js';
import { runRecord } from './run-record.js';
import { summarise } from './summary.js';
import type { EvalSummary, EvalVersions } from './summary.js';
import type { EvalEvent, EvalMethod, EvalOptions, EvalProgress, EvalRecord } from './types.js';

/** One record still to run, or already there. */
interface Item {
  readonly id: string;
  readonly cell: PlanCell;
  readonly sample: number;
  readonly method: EvalMethod;
}

/**
 * Runs RULER tasks on a model under several methods, one prompt at a time: lengths, then tasks, then samples, then
 * methods, always in that order. With `output`, every finished record is on disk before the next begins, and a
 * later call with the same settings runs only what is missing: more samples, tasks, lengths or methods may be added.
 *
 * @throws AccelError ERR_ACCEL_CONFIG for settings that cannot be used or a record file of another run,
 * ERR_ACCEL_PROMPT_TOO_LONG for lengths beyond the model's window, ERR_ACCEL_ABORTED after `signal`, and what the
 * engine throws
 *
 * @example
 * for await (const event of runEval({ model, methods: [{ name: 'full', policy: full }], samples: 5 })) {
 *   if (event.type === 'end') console.log(formatTable(event.summary));
 * }
 */
export async function* runEval(options: EvalOptions): AsyncGenerator<EvalEvent, void, undefined> {
  const started = performance.now();
  const plan = makePlan(options);
  const { model, signal } = options;
  throwIfAborted(signal);
  const sources = options.sources ?? (await loadSources(options));
  const settings = await runSettings(model, plan, sources);
  const policies = new Map(
    plan.methods.map(({ name, policy }) => [name, policyFingerprint(policy)]),
  );
  const file =
    options.output === undefined
      ? undefined
      : await RecordFile.open(join(options.output, 'records.jsonl'), settings, policies);
  try {
    const items = planItems(plan);
    const records = new Map<string, EvalRecord>();
    for (const { id } of items) {
      const record = file?.records.get(id);
      if (record !== undefined) records.set(id, record);
    }
    yield { type: 'start', resumed: records.size, progress: progressOf(items, records) };

    for (const cell of plan.cells) {
      const missing = items.filter((item) => item.cell === cell && !records.has(item.id));
      if (missing.length === 0) continue;
      const format = promptFormat(model.tokenizer, plan, cell.id);
      const { seed, workedExample } = plan;
      const samples = sampleSteps(cell.task, {
        ...format,
        ...cell,
        seed,
        workedExample,
        sources,
      });
      let sample: RulerSample | undefined;
      for (const item of missing) {
        // Earlier samples are drawn even if their records are there: the random stream goes on.
        while (sample === undefined || sample.index < item.sample) {
          await setImmediate(); // drawing is synchronous; let the caller's progress display breathe
          throwIfAborted(signal);
          sample = samples.next().value ?? sample;
        }
        const tokens = format.encode(sample);
        const { cell: _, method, ...rest } = item;
        yield {
          type: 'prompt',
          ...rest,
          task: cell.task.name,
          length: cell.length,
          method: method.name,
          promptTokens: tokens.length,
        };
        const run = runRecord({
          model,
          method,
          policyDigest: policies.get(method.name) ?? '',
          id: item.id,
          sample,
          tokens,
          maxNewTokens: cell.maxNewTokens,
          strict: options.strict ?? false,
          ...(signal !== undefined && { signal }),
        });
        const record = yield* run;
        await file?.append(record);
        records.set(item.id, record);
        yield { type: 'record', record, progress: progressOf(items, records) };
      }
    }

    const summary: EvalSummary = {
      settings,
      versions: versions(),
      methods: [...policies].map(([name, policy]) => ({ name, policy })),
      samples: plan.samples,
      seconds: (performance.now() - started) / 1000,
      ...summarise(inReportOrder(items, plan, records)),
    };
    if (options.output !== undefined) {
      await writeWhole(
        join(options.output, 'summary.json'),
        `${JSON.stringify(summary, null, 2)}\n`,
      );
      await writeWhole(join(options.output, 'summary.csv'), formatCsv(summary));
    }
    yield { type: 'end', summary };
  } finally {
    await file?.close();
  }
}

function planItems(plan: Plan): Item[] {
  return plan.cells.flatMap((cell) =>
    Array.from({ length: plan.samples }, (_, sample) =>
      plan.methods.map((method) => ({
        id: `${cell.id}/${sample}/${method.name}`,
        cell,
        sample,
        method,
      })),
    ).flat(),
  );
}

/** Method by method, as a reader compares them; the run itself goes prompt by prompt. */
function inReportOrder(
  items: readonly Item[],
  plan: Plan,
  records: ReadonlyMap<string, EvalRecord>,
): EvalRecord[] {
  return plan.methods
    .flatMap((method) => items.filter((item) => item.method === method))
    .flatMap((item) => records.get(item.id) ?? []);
}

function progressOf(
  items: readonly Item[],
  records: ReadonlyMap<string, EvalRecord>,
): EvalProgress {
  const tokens = (list: readonly Item[]): number =>
    list.reduce((sum, { cell }) => sum + cell.length, 0);
  const done = items.filter(({ id }) => records.has(id));
  return {
    done: done.length,
    total: items.length,
    tokensDone: tokens(done),
    tokensTotal: tokens(items),
  };
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new AccelError(
    'ERR_ACCEL_ABORTED',
    'The evaluation was stopped. Finished records are kept; run it again to continue.',
    {
      cause: signal.reason,
    },
  );
}

function versions(): EvalVersions {
  const require = createRequire(import.meta.url);
  const version = (name: string): string =>
    (require(`${name}/package.json`) as { version: string }).version;
  return {
    eval: version('@accel/eval'),
    core: version('@accel/core'),
    node: process.versions.node,
  };
}
