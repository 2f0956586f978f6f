import {
  longBenchConfig,
  niahConfig,
  nllConfig,
  readBenchmarkConfig,
  RULER_TASKS,
  rulerConfig,
  type BenchmarkConfig,
  type Mode,
  type TemplateMode,
} from '@accel/eval';
import { UsageError } from '../errors.js';

/** What of the command line is put over a config. */
export interface ConfigChanges {
  readonly tasks?: readonly string[];
  readonly lengths?: readonly number[];
  readonly modes?: readonly Mode[];
  readonly seed?: number;
  readonly template?: TemplateMode;
  readonly essayPath?: string;
  readonly wordsPath?: string;
  readonly punktPath?: string;
  readonly dataPath?: string;
}

/** Where a config comes from. */
export interface ConfigSource {
  /** YAML file. Default: the benchmark's defaults. */
  readonly path: string | undefined;
  /** Benchmark, in any case; with a file it must agree. Default RULER. */
  readonly benchmark: string | undefined;
  /** The model is the embedded one, so the default config is one that it can answer. */
  readonly embedded: boolean;
}

/** What of the command line each benchmark heeds; anything else would silently do nothing. */
const HEEDED: Readonly<Record<BenchmarkConfig['benchmark'], readonly (keyof ConfigChanges)[]>> = {
  RULER: [
    ...(['tasks', 'lengths', 'modes', 'seed', 'template'] as const),
    ...(['essayPath', 'wordsPath', 'punktPath'] as const),
  ],
  LongBench: ['tasks', 'modes', 'template', 'dataPath'],
  NIAH: ['lengths', 'modes', 'seed', 'template', 'essayPath'],
  NLL: ['lengths', 'seed'],
};

/** RULER's tasks that need data which is not ours to ship. */
const NEED_DATA = ['qa_1', 'qa_2'];
/** Tasks that the embedded model was not trained for. */
const NOT_EMBEDDED = [...NEED_DATA, 'cwe', 'fwe'];

/**
 * Reads a benchmark config and puts what the command line says over it.
 *
 * @param warn told of keys that are not known and the like
 * @throws AccelError ERR_ACCEL_FILE or ERR_ACCEL_CONFIG with file, line and column; UsageError when the benchmark has no
 *   such setting
 */
export async function loadConfig(
  source: ConfigSource,
  changes: ConfigChanges,
  warn: (message: string) => void,
): Promise<BenchmarkConfig> {
  const config = await baseConfig(source, warn);
  const heeded: readonly string[] = HEEDED[config.benchmark];
  for (const key of Object.keys(changes)) {
    if (heeded.includes(key)) continue;
    throw new UsageError(`--${dashed(key)} says nothing to ${config.benchmark}. Leave it out.`);
  }
  return { ...config, ...changes };
}

async function baseConfig(
  { path, benchmark, embedded }: ConfigSource,
  warn: (message: string) => void,
): Promise<BenchmarkConfig> {
  if (path === undefined) return defaultConfig(benchmark ?? 'RULER', embedded);
  const { config, warnings } = await readBenchmarkConfig(path);
  warnings.forEach(warn);
  if (benchmark !== undefined && benchmark.toLowerCase() !== config.benchmark.toLowerCase()) {
    throw new UsageError(`--benchmark is ${benchmark}, but ${path} is about ${config.benchmark}.`);
  }
  return config;
}

/** What runs when no file is given: short enough to be tried. */
function defaultConfig(benchmark: string, embedded: boolean): BenchmarkConfig {
  switch (benchmark.toLowerCase()) {
    case 'ruler':
      return rulerConfig({
        samples: 10,
        tasks: RULER_TASKS.map(({ name }) => name).filter(
          (name) => !(embedded ? NOT_EMBEDDED : NEED_DATA).includes(name),
        ),
        // The embedded model never saw RULER's worked example and mistakes it for the question.
        workedExample: !embedded,
      });
    case 'longbench':
      return longBenchConfig({});
    case 'niah':
      return niahConfig({
        ...(embedded && { needle: 'magic-number' }),
        lengths: [1024, 2048, 4096],
        depths: [0, 25, 50, 75, 100],
      });
    case 'nll':
      return nllConfig({ samples: 10 });
    default:
      throw new UsageError(
        `there is no benchmark "${benchmark}". Use RULER, LongBench, NIAH or NLL.`,
      );
  }
}

function dashed(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
