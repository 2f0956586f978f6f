import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EvalTask } from '../benchmark/types.js';
import { configError, fileError, messageOf } from '../errors.js';
import type { Prepared } from '../prompt/maker.js';
import type { Mode } from '../prompt/modes.js';
import { writeWhole } from './files.js';
import type { Plan } from './plan.js';
import { isFailed, type RunRecord } from './records.js';
import type { PromptSpecimen, RunCall, RunFile } from './run-file.js';

/** What a call knows of its run before it begins. */
export type RunFacts = Pick<RunFile, 'settings' | 'config' | 'methods' | 'strict'> & {
  readonly plan: Plan;
  readonly seed: number;
  readonly call: Omit<RunCall, 'finished' | 'seconds'>;
};

/** Characters and ids of a prompt that are kept. */
const SHOWN = { head: 400, tail: 400, ids: 16 };

/**
 * Keeps `run.json`. Calls on one folder add up: tasks, lengths, modes and methods of earlier calls stay.
 */
export class RunLog {
  readonly #path: string | undefined;
  readonly #started = performance.now();
  #file: RunFile;

  private constructor(path: string | undefined, file: RunFile) {
    this.#path = path;
    this.#file = file;
  }

  /** @param folder of the run; undefined keeps everything in memory */
  static async open(folder: string | undefined, facts: RunFacts): Promise<RunLog> {
    const path = folder === undefined ? undefined : join(folder, 'run.json');
    const before = path === undefined ? undefined : await readIfThere(path);
    const log = new RunLog(path, merge(before, facts));
    await log.#write();
    return log;
  }

  get file(): RunFile {
    return this.#file;
  }

  /** Remembers what a task's first prompts look like. Written with the next {@link save}. */
  specimen(task: EvalTask, modes: readonly Mode[], prepared: Prepared): void {
    const known = this.#file.prompts;
    const added = modes.flatMap((mode, m) => {
      if (known.some((each) => each.task === task.id && each.mode === mode)) return [];
      const prompt = prepared.prompts[m];
      if (prompt === undefined) return [];
      const text = prompt.turns.map((turn) => turn.text).join('');
      const ids = prompt.turns.flatMap((turn) => [...turn.ids.subarray(0, SHOWN.ids)]);
      const specimen: PromptSpecimen = {
        task: task.id,
        mode,
        tokens: prompt.turns.reduce((sum, turn) => sum + turn.ids.length, 0),
        head: text.slice(0, SHOWN.head),
        tail: text.slice(-SHOWN.tail),
        ids: ids.slice(0, SHOWN.ids),
        stopIds: prompt.stopIds,
        stop: prompt.stop,
      };
      return [specimen];
    });
    if (added.length > 0) this.#file = { ...this.#file, prompts: [...known, ...added] };
  }

  /** Writes the file as it is, the seconds of this call so far in it. */
  async save(): Promise<void> {
    this.#call({});
    await this.#write();
  }

  /** The call has done all it was to do. @param records all records of the run, in order */
  async finish(records: readonly RunRecord[]): Promise<void> {
    this.#call({ finished: new Date().toISOString() });
    const achieved = records.flatMap((record) =>
      isFailed(record) || record.receipt === undefined
        ? []
        : [
            {
              id: record.id,
              promptTokens: record.promptTokens,
              rowsStored: record.receipt.rowsStored,
              kvBytes: record.receipt.kv.measuredBytes,
            },
          ],
    );
    this.#file = { ...this.#file, achieved };
    await this.#write();
  }

  /** All records in the order of results: by task, method, mode, sample. */
  inOrder(records: ReadonlyMap<string, RunRecord>): RunRecord[] {
    const { tasks, methods, modes } = this.#file;
    return tasks.flatMap((task) =>
      methods.flatMap((method) =>
        modes.flatMap((mode) =>
          Array.from(
            { length: task.samples },
            (_, sample) => records.get(`${task.id}/${sample}/${mode}/${method.name}`) ?? [],
          ).flat(),
        ),
      ),
    );
  }

  #call(change: Partial<RunCall>): void {
    const calls = [...this.#file.calls];
    const last = calls.pop();
    if (last === undefined) return;
    const seconds = (performance.now() - this.#started) / 1000;
    this.#file = { ...this.#file, calls: [...calls, { ...last, seconds, ...change }] };
  }

  async #write(): Promise<void> {
    if (this.#path === undefined) return;
    await writeWhole(this.#path, `${JSON.stringify(this.#file, null, 1)}\n`);
  }
}

function merge(before: RunFile | undefined, facts: RunFacts): RunFile {
  const { plan, call, seed, ...rest } = facts;
  const tasks = plan.tasks.map((task) => ({
    id: task.id,
    name: task.name,
    length: task.length ?? null,
    metric: task.metric,
    maxNewTokens: task.maxNewTokens,
    samples: plan.samplesOf(task),
    ...(task.data !== undefined && { data: task.data }),
  }));
  return {
    format: 'accel-eval-run/2',
    ...rest,
    seeds: { samples: seed, sampling: 0 },
    modes: union(before?.modes ?? [], plan.modes, (mode) => mode),
    methods: union(before?.methods ?? [], rest.methods, ({ name }) => name),
    tasks: union(before?.tasks ?? [], tasks, ({ id }) => id, joinTasks),
    prompts: before?.prompts ?? [],
    calls: [...(before?.calls ?? []), { ...call, finished: null, seconds: 0 }],
    achieved: [],
  };
}

type RunTask = RunFile['tasks'][number];

/** A task that an earlier call had too. @throws AccelError ERR_ACCEL_CONFIG when its data is another now */
function joinTasks(before: RunTask, now: RunTask): RunTask {
  if (before.data !== now.data) {
    throw configError(
      `The data of ${now.id} is not that of the earlier records of this run. Use the earlier files to continue it, or choose another output folder.`,
    );
  }
  return before.samples > now.samples ? before : now;
}

function union<T>(
  old: readonly T[],
  added: readonly T[],
  key: (item: T) => string,
  both: (old: T, added: T) => T = (_, item) => item,
): T[] {
  const items = new Map(old.map((item) => [key(item), item]));
  for (const item of added) {
    const known = items.get(key(item));
    items.set(key(item), known === undefined ? item : both(known, item));
  }
  return [...items.values()];
}

async function readIfThere(path: string): Promise<RunFile | undefined> {
  try {
    // Written by this class alone, and whole: its shape is checked where others read it (report/read-run.ts).
    return JSON.parse(await readFile(path, 'utf8')) as RunFile;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw fileError(
      `Cannot read ${path}: ${messageOf(error)}. Choose another output folder or delete the file; records are kept.`,
      error,
    );
  }
}
