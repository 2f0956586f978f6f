import { join } from 'node:path';
import type { Benchmark } from '../benchmark/types.js';
import { policyFingerprint, runSettings } from './fingerprint.js';
import { hardware, versions } from './hardware.js';
import { lockRun } from './lock.js';
import type { Plan, PlanItem } from './plan.js';
import { RecordFile } from './record-file.js';
import { isFailed, type RunRecord } from './records.js';
import { RunLog } from './run-log.js';
import type { Subject } from './subject.js';
import type { EvalOptions, EvalProgress } from './types.js';

/** Weight of a record in the progress where samples have lengths of their own. */
const USUAL_TOKENS = 8192;

/** A run in its folder, or in memory alone: what is there already, and where what is added goes. */
export class OpenRun implements AsyncDisposable {
  readonly log: RunLog;
  /** Method name → digest of its policy. */
  readonly policies: ReadonlyMap<string, string>;
  /** Everything answered, and what failed in this call. */
  readonly records: Map<string, RunRecord>;
  /** Records that this call shall make, in the order of results. */
  readonly missing: readonly PlanItem[];
  /** Records of the plan that were there. */
  readonly resumed: number;
  readonly #progress: { -readonly [K in keyof EvalProgress]: EvalProgress[K] };
  readonly #file: RecordFile | undefined;
  readonly #unlock: (() => Promise<void>) | undefined;

  private constructor(
    plan: Plan,
    log: RunLog,
    policies: ReadonlyMap<string, string>,
    file: RecordFile | undefined,
    unlock: (() => Promise<void>) | undefined,
  ) {
    this.log = log;
    this.policies = policies;
    this.#file = file;
    this.#unlock = unlock;
    this.records = new Map(file?.records);
    this.missing = plan.items.filter(({ id }) => !this.#answered(id));
    this.resumed = plan.items.length - this.missing.length;
    const [all, left] = [tokensOf(plan.items), tokensOf(this.missing)];
    this.#progress = {
      done: this.resumed,
      total: plan.items.length,
      tokensDone: all - left,
      tokensTotal: all,
    };
  }

  /**
   * @throws AccelError ERR_ACCEL_CONFIG for another run's files, ERR_ACCEL_BUSY when another process has them,
   *   ERR_ACCEL_FILE
   */
  static async open(
    options: EvalOptions,
    plan: Plan,
    subject: Subject,
    benchmark: Benchmark,
  ): Promise<OpenRun> {
    const { output, config, strict = false, command } = options;
    const policies = new Map(
      plan.methods.map(({ name, policy }) => [name, policyFingerprint(policy)]),
    );
    const settings = runSettings(subject, config, benchmark, options.maxLength);
    const unlock = output === undefined ? undefined : await lockRun(output);
    try {
      const file =
        output === undefined
          ? undefined
          : await RecordFile.open(join(output, 'records.jsonl'), settings, policies);
      const log = await RunLog.open(output, {
        settings,
        config,
        strict,
        plan,
        seed: config.seed,
        methods: plan.methods.map(({ name, policy }) => ({
          name,
          digest: policies.get(name) ?? '',
          policy: policy.toJSON(),
        })),
        call: {
          started: new Date().toISOString(),
          resumed: file?.records.size ?? 0,
          hardware: hardware(subject.devices),
          versions: versions(),
          batchSize: 'model' in options ? (options.batchSize ?? 1) : options.executor.batchSize,
          executor: subject.executor ?? 'model',
          command,
        },
      });
      return new OpenRun(plan, log, policies, file, unlock);
    } catch (error) {
      await unlock?.();
      throw error;
    }
  }

  /** Adds records, on disk when this returns. */
  async add(records: readonly RunRecord[]): Promise<void> {
    await this.#file?.append(records);
    for (const record of records) {
      if (!this.records.has(record.id)) {
        this.#progress.done += 1;
        this.#progress.tokensDone += record.length ?? USUAL_TOKENS;
      }
      this.records.set(record.id, record);
    }
  }

  /** Puts the files in their final form. @returns all records of the run, in order */
  async finish(): Promise<RunRecord[]> {
    const records = this.log.inOrder(this.records);
    await this.#file?.rewrite(records);
    await this.log.finish(records);
    return records;
  }

  get progress(): EvalProgress {
    return { ...this.#progress };
  }

  #answered(id: string): boolean {
    const record = this.records.get(id);
    if (record === undefined) return false;
    if (!isFailed(record)) return true;
    this.records.delete(id); // it is tried again
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    await this.#unlock?.();
  }
}

function tokensOf(items: readonly PlanItem[]): number {
  return items.reduce((sum, { task }) => sum + (task.length ?? USUAL_TOKENS), 0);
}
