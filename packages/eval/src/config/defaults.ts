import { LONGBENCH_RAW_TASKS, LONGBENCH_TASKS } from '../longbench/tasks.js';
import { RULER_TASKS } from '../ruler/tasks.js';
import { linearSteps } from './intervals.js';
import type { CommonConfig, LongBenchConfig, NiahConfig, NllConfig, RulerConfig } from './types.js';

/** gkamradt/LLMTest_NeedleInAHaystack's needle, its line ends included. */
const SAN_FRANCISCO = {
  needle:
    '\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.\n',
  question: 'What is the best thing to do in San Francisco?',
  answer: 'eat a sandwich and sit in Dolores Park on a sunny day.',
} as const;

const COMMON: CommonConfig = {
  samples: 50,
  template: 'auto',
  noTemplateTasks: [],
  seed: 42,
  modes: ['query-aware'],
};

/** A config of RULER with its defaults filled in: all tasks at 4096 tokens, 50 samples. */
export function rulerConfig(given: Partial<RulerConfig> = {}): RulerConfig {
  return {
    ...COMMON,
    tasks: RULER_TASKS.map(({ name }) => name),
    lengths: [4096],
    tokensToGenerate: 'ruler',
    workedExample: true,
    ...given,
    benchmark: 'RULER',
  };
}

/** A config of LongBench with its defaults filled in: 21 tasks, all samples, six tasks without a chat template. */
export function longBenchConfig(given: Partial<LongBenchConfig> = {}): LongBenchConfig {
  return {
    ...COMMON,
    tasks: LONGBENCH_TASKS.map(({ name }) => name),
    samples: null,
    noTemplateTasks: LONGBENCH_RAW_TASKS,
    ...given,
    benchmark: 'LongBench',
  };
}

/** A config of NIAH with its defaults filled in: 16 lengths from 1000 to 16,000, 11 depths, one sample in every cell. */
export function niahConfig(given: Partial<NiahConfig> = {}): NiahConfig {
  const depths = given.depths ?? linearSteps(0, 100, 11);
  return {
    ...COMMON,
    samples: depths.length,
    lengths: linearSteps(1000, 16_000, 16),
    buffer: 200,
    ...SAN_FRANCISCO,
    ...given,
    depths,
    benchmark: 'NIAH',
  };
}

/** A config of NLL with its defaults filled in: windows of 4096 tokens, the last 256 of which are predicted. */
export function nllConfig(given: Partial<NllConfig> = {}): NllConfig {
  return { ...COMMON, lengths: [4096], targetTokens: 256, ...given, benchmark: 'NLL' };
}
