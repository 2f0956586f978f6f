import type { EvalTask } from '../benchmark/types.js';
import type { Job } from '../execute/types.js';
import type { Prepared, PromptSource } from '../prompt/maker.js';
import type { Mode } from '../prompt/modes.js';
import type { Plan, PlanItem } from './plan.js';

/** Records that are made together: samples of one task in one mode under one method. */
export interface Batch {
  readonly task: EvalTask;
  readonly mode: Mode;
  readonly method: string;
  readonly entries: readonly BatchEntry[];
}

/** One record to make. */
export interface BatchEntry {
  readonly item: PlanItem;
  readonly prepared: Prepared;
  readonly job: Job;
}

/** Told of what comes to light while prompts are made. */
export interface BatchListener {
  prepared(task: EvalTask, prepared: Prepared): void;
  absent(items: readonly PlanItem[]): Promise<void>;
}

/** Prepared samples of a task, and which of their records are missing. */
interface Window {
  readonly task: EvalTask;
  readonly samples: readonly { readonly prepared: Prepared; readonly items: readonly PlanItem[] }[];
  /** Records of samples that the task does not have: some data does not fit every length. */
  readonly absent: readonly PlanItem[];
}

/** Windows are this many batches where lengths vary, so that prompts of like lengths can be put together. */
const BUCKETS = 4;

/**
 * Batches of everything that is missing, task by task. Prompts are made one window ahead of those who take batches. Where
 * samples have lengths of their own a window is sorted by length, so that a batch's prompts are read and answered in about
 * the same time.
 *
 * @param tell called with each sample's prompts, in order, and with records whose sample turned out not to exist
 */
export async function* makeBatches(
  plan: Plan,
  missing: readonly PlanItem[],
  source: PromptSource,
  batchSize: number,
  tell: BatchListener,
): AsyncGenerator<Batch, void, undefined> {
  const windows = windowRequests(plan, missing, batchSize);
  const load = async (request: WindowRequest | undefined): Promise<Window | undefined> =>
    request === undefined ? undefined : loadWindow(request, plan.modes, source);
  let next = load(windows.shift());
  for (let window = await next; window !== undefined; window = await next) {
    next = load(windows.shift());
    next.catch(() => undefined); // reported when it is awaited
    for (const { prepared } of window.samples) tell.prepared(window.task, prepared);
    if (window.absent.length > 0) await tell.absent(window.absent);
    yield* batchesOf(window, plan, batchSize);
  }
}

interface WindowRequest {
  readonly task: EvalTask;
  readonly samples: ReadonlyMap<number, readonly PlanItem[]>;
}

function windowRequests(
  plan: Plan,
  missing: readonly PlanItem[],
  batchSize: number,
): WindowRequest[] {
  return plan.tasks.flatMap((task) => {
    const samples = new Map<number, PlanItem[]>();
    for (const item of missing) {
      if (item.task === task) samples.set(item.sample, [...(samples.get(item.sample) ?? []), item]);
    }
    const ordered = [...samples].sort(([a], [b]) => a - b);
    const size = task.length === undefined ? batchSize * BUCKETS : batchSize;
    return chunks(ordered, size).map((chunk) => ({ task, samples: new Map(chunk) }));
  });
}

async function loadWindow(
  { task, samples }: WindowRequest,
  modes: readonly Mode[],
  source: PromptSource,
): Promise<Window> {
  const loaded = await Promise.all(
    [...samples].map(async ([sample, items]) => ({
      prepared: await source.prepare({ task: task.id, sample, modes }),
      items,
    })),
  );
  const present = loaded.flatMap(({ prepared, items }) =>
    prepared === undefined ? [] : [{ prepared, items }],
  );
  if (task.length === undefined) {
    present.sort((a, b) => tokensOf(a.prepared) - tokensOf(b.prepared));
  }
  const absent = loaded.flatMap(({ prepared, items }) => (prepared === undefined ? items : []));
  return { task, samples: present, absent };
}

function* batchesOf({ task, samples }: Window, plan: Plan, batchSize: number): Generator<Batch> {
  for (const { name: method } of plan.methods) {
    for (const [m, mode] of plan.modes.entries()) {
      const entries = samples.flatMap(({ prepared, items }) => {
        const item = items.find((each) => each.method === method && each.mode === mode);
        const prompt = prepared.prompts[m];
        if (item === undefined || prompt === undefined) return [];
        return [{ item, prepared, job: { id: item.id, method, prompt } }];
      });
      for (const chunk of chunks(entries, batchSize)) yield { task, mode, method, entries: chunk };
    }
  }
}

function tokensOf({ prompts }: Prepared): number {
  return prompts[0]?.turns.reduce((sum, { ids }) => sum + ids.length, 0) ?? 0;
}

function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) =>
    list.slice(i * size, (i + 1) * size),
  );
}
