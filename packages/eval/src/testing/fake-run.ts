import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BenchmarkName } from '../benchmark/types.js';
import { MODES } from '../prompt/modes.js';
import type { Mode } from '../prompt/modes.js';
import { MersenneTwister } from '../random/mersenne-twister.js';
import type { LoadedRun } from '../report/read-run.js';
import { summarise } from '../report/summary.js';
import { RECORDS_FORMAT } from '../runner/record-line.js';
import type { EvalRecord, RunRecord } from '../runner/records.js';
import type { RunFile } from '../runner/run-file.js';

/** What a made-up run is about. */
export interface FakeRunOptions {
  readonly name?: string;
  readonly benchmark?: BenchmarkName;
  readonly methods?: readonly string[];
  readonly tasks?: readonly string[];
  readonly lengths?: readonly (number | null)[];
  readonly modes?: readonly Mode[];
  readonly samples?: number;
  readonly seed?: number;
  /** Changes a record, or leaves it out. */
  readonly edit?: (record: EvalRecord) => RunRecord | undefined;
}

const PLAIN = 'full';
const LAYERS = 8;
const ROW_BYTES = 256;

/** A run that no model made, the same for the same options. Methods but `full` keep 256 rows and score less. */
export function fakeRun(options: FakeRunOptions = {}): LoadedRun {
  const {
    name = 'fake',
    benchmark = 'RULER',
    methods = [PLAIN, 'SnapKV', 'StreamingLLM'],
    tasks = ['niah_single_1', 'vt'],
    lengths = [1024, 4096],
    modes = ['query-aware'],
    samples = 4,
    seed = 42,
    edit = (record: EvalRecord) => record,
  } = options;
  const random = new MersenneTwister();
  random.seedWord(seed);
  const uniform = (): number => random.next() / 2 ** 32;
  const records: RunRecord[] = [];
  for (const length of lengths) {
    for (const task of tasks) {
      for (let sample = 0; sample < samples; sample++) {
        for (const mode of modes) {
          for (const [rank, method] of methods.entries()) {
            const record = fakeRecord(
              { benchmark, length, task, sample, mode, method, rank },
              uniform,
            );
            const edited = edit(record);
            if (edited !== undefined) records.push(edited);
          }
        }
      }
    }
  }
  const run = fakeRunFile({ benchmark, methods, tasks, lengths, modes, samples, seed });
  return { name, folder: name, run, records, summary: summarise(run, records) };
}

/** Writes a run as `accel eval` does. @returns the folder */
export async function writeFakeRun(parent: string, loaded: LoadedRun): Promise<string> {
  const folder = join(parent, loaded.name);
  await mkdir(folder, { recursive: true });
  const header = { format: RECORDS_FORMAT, settings: loaded.run.settings };
  const lines = [header, ...loaded.records].map((line) => `${JSON.stringify(line)}\n`);
  await writeFile(join(folder, 'records.jsonl'), lines.join(''));
  await writeFile(join(folder, 'run.json'), JSON.stringify(loaded.run));
  return folder;
}

interface Place {
  readonly benchmark: BenchmarkName;
  readonly length: number | null;
  readonly task: string;
  readonly sample: number;
  readonly mode: Mode;
  readonly method: string;
  readonly rank: number;
}

function fakeRecord(place: Place, uniform: () => number): EvalRecord {
  const { benchmark, length, task, sample, mode, method, rank } = place;
  const plain = method === PLAIN;
  const sparse = method === 'FlexPrefill';
  const tokens = length ?? 3000;
  const kept = plain || sparse ? tokens : Math.min(tokens, 256 + 64 * rank);
  const hidden = plain ? 0 : MODES.indexOf(mode);
  const right = uniform() < 0.95 - 0.15 * rank - 0.15 * hidden;
  const nll = 2 + 0.1 * rank + 0.2 * uniform();
  const text = benchmark === 'NLL';
  return {
    id: `${task}${length === null ? '' : `_${length}`}/${sample}/${mode}/${method}`,
    task,
    length,
    sample,
    mode,
    method,
    policy: `digest-of-${method}`,
    references: text ? [] : [`answer ${sample}`],
    ...(benchmark === 'NIAH' && { facts: { depth: 50 * (sample % 3) } }),
    ...(benchmark === 'LongBench' && { facts: { words: 3000 + 3000 * (sample % 3) } }),
    score: text ? nll : right ? 100 : 0,
    ...(text && { nll: nll * 64 }),
    prediction: text ? '' : right ? `answer ${sample}` : rank > 1 ? '' : 'something else',
    promptTokens: tokens - 64,
    newTokens: text ? 64 : 12,
    finish: text ? 'length' : 'eos',
    prefillSeconds: (tokens / 1000) * (sparse ? 0.5 : 1),
    decodeTokens: text ? 0 : 11,
    decodeSeconds: text ? 0 : 0.1 + kept / 50_000,
    receipt: {
      rowsIn: tokens - 64,
      rowsStored: kept === tokens ? tokens - 64 : kept,
      layerRows: Array.from({ length: LAYERS }, (_, layer) =>
        kept === tokens ? tokens - 64 : kept + (LAYERS - 1 - 2 * layer) * 16,
      ),
      kv: {
        measuredBytes: LAYERS * (kept + 32) * ROW_BYTES,
        arithmeticBytes: LAYERS * kept * ROW_BYTES,
        fullBytes: LAYERS * tokens * ROW_BYTES,
      },
      ...(sparse && { density: 0.3 + 0.1 * uniform() }),
      acted: plain ? {} : { [`${method.toLowerCase()}.${sparse ? 'prefill' : 'select'}`]: LAYERS },
      fallbacks: [],
      kernels: { attention: LAYERS },
    },
  };
}

type FileOptions = Required<Omit<FakeRunOptions, 'name' | 'edit'>>;

function fakeRunFile(options: FileOptions): RunFile {
  const { benchmark, methods, tasks, lengths, modes, samples, seed } = options;
  const text = benchmark === 'NLL';
  return {
    format: 'accel-eval-run/2',
    settings: {
      benchmark,
      model: 'fake-1m',
      modelFiles: '0123456789abcdef',
      device: 'cpu',
      dtype: 'float32',
      maxLength: null,
      sources: 'fedcba9876543210',
      config: { seed, template: 'auto' },
    },
    config: { benchmark, samples, seed },
    seeds: { samples: seed },
    modes,
    methods: methods.map((name) => ({
      name,
      digest: `digest-of-${name}`,
      policy: {
        version: 1,
        parts:
          name === PLAIN
            ? []
            : [{ id: name.toLowerCase(), slot: 'select', options: { budget: 256 } }],
      },
    })),
    tasks: lengths.flatMap((length) =>
      tasks.map((name) => ({
        id: length === null ? name : `${name}_${length}`,
        name,
        length,
        metric: text
          ? { name: 'nll', better: 'lower', unit: 'nats' }
          : { name: 'string_match_all', unit: 'percent' },
        maxNewTokens: text ? 0 : 128,
        samples,
      })),
    ),
    strict: false,
    prompts: [
      {
        task: `${tasks[0] ?? ''}_${lengths[0] ?? ''}`,
        mode: modes[0] ?? 'query-aware',
        tokens: 960,
        head: '<s>[INST] Some special magic numbers are hidden within the following text.',
        tail: 'What is the special magic number? [/INST] The number is',
        ids: [1, 733, 16289, 28793],
        stopIds: [2],
        stop: [],
      },
    ],
    calls: [
      {
        started: '2026-11-28T00:00:00.000Z',
        finished: '2026-11-28T00:01:40.000Z',
        seconds: 100,
        resumed: 0,
        hardware: {
          host: 'machine',
          platform: 'linux x64',
          cpu: 'A processor',
          cores: 2,
          memoryBytes: 24 * 2 ** 30,
          devices: ['cpu'],
        },
        versions: { eval: '0.0.0', core: '0.0.0', node: '20.20.2' },
        batchSize: 8,
        executor: 'model',
        command: ['accel', 'eval'],
      },
    ],
    achieved: [],
  };
}
