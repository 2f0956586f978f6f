import { createHash } from 'node:crypto';
import type { LongBenchConfig } from '../config/types.js';
import { locateData } from '../data/locate.js';
import { argumentError, fileError } from '../errors.js';
import { anyQuestion, askQuestion, promptParts } from '../longbench/prompts.js';
import { readLongBench, type LongBenchRecords } from '../longbench/read-records.js';
import { needsSegmenter, scoreLongBench } from '../longbench/score.js';
import {
  baseName,
  LONGBENCH_TASKS,
  longBenchTask,
  type LongBenchTask,
} from '../longbench/tasks.js';
import { loadSegmenter, type Segment } from '../metrics/segmenter.js';
import type { Benchmark, EvalTask, QuestionSample } from './types.js';

/** A task that is opened. */
interface OpenTask {
  readonly task: LongBenchTask;
  readonly data: LongBenchRecords;
}

/**
 * Opens LongBench v1: the tasks of the config, with the samples that are asked for in memory.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT for a task that LongBench has not
 * @throws AccelError ERR_ACCEL_FILE when the data is not there, or a record of it cannot be used
 * @throws AccelError ERR_ACCEL_CONFIG when Chinese texts cannot be segmented on this platform
 */
export async function openLongBench(config: LongBenchConfig): Promise<Benchmark> {
  const tasks = config.tasks.map(longBenchTask);
  const folder = config.dataPath ?? locateData('longbench');
  if (folder === undefined) {
    throw fileError(
      "LongBench's data is not here. Get it with `accel data pull longbench`, or set dataPath to a folder with its <task>.jsonl files.",
    );
  }
  const opened = new Map<string, OpenTask>();
  for (const task of tasks) {
    const data = await readLongBench(folder, task.name, config.samples);
    opened.set(task.name, { task, data });
  }
  const segment = tasks.some(needsSegmenter) ? await loadSegmenter() : notNeeded;
  const find = (name: string): OpenTask => {
    const found = opened.get(name);
    if (found !== undefined) return found;
    throw argumentError(`The task ${name} is not in this benchmark's config.`);
  };

  return {
    name: 'LongBench',
    tasks: [...opened.values()].map(evalTask),
    // All that tasks share are the prompts; their data is in their own digests.
    fingerprint: digestOf(JSON.stringify(LONGBENCH_TASKS.map(({ name }) => promptParts(name)))),
    *samples({ name }) {
      const { task, data } = find(name);
      const count = Math.min(config.samples ?? data.available, data.available);
      for (let index = 0; index < count; index++) yield questionSample(task, data, index);
    },
    score({ name }, prediction, { references }) {
      const { task, data } = find(name);
      return scoreLongBench(task, prediction, references, { classes: data.classes, segment });
    },
  };
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

const notNeeded: Segment = () => {
  throw new TypeError('no Chinese task is open');
};

function evalTask({ task, data }: OpenTask): EvalTask {
  return {
    id: task.name,
    name: task.name,
    maxNewTokens: task.maxNewTokens,
    // Generation of this task alone ends at the end of the line, in LongBench's pred.py.
    ...(baseName(task.name) === 'samsum' ? { stop: ['\n'] } : {}),
    metric: { name: task.metric },
    available: data.available,
    data: data.digest.slice(0, 16),
  };
}

function questionSample(
  task: LongBenchTask,
  { records, classes, available }: LongBenchRecords,
  index: number,
): QuestionSample {
  const record = records[index] as LongBenchRecords['records'][number];
  const parts = promptParts(task.name);
  const other = records[(index + 1) % available]?.input ?? '';
  const second = other !== '' && other !== record.input;
  return {
    kind: 'question',
    index,
    context: parts.before + record.context,
    question: askQuestion(parts, record.input),
    answerPrefix: '',
    firstQuestion: second ? askQuestion(parts, other) : anyQuestion(task.language),
    references: record.answers,
    facts: {
      _id: record._id,
      language: record.language,
      words: record.length,
      ...(classes.length > 0 ? { classes } : {}),
    },
  };
}
