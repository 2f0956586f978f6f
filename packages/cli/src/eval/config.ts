import { parseBenchmarkConfig, readBenchmarkConfig, type BenchmarkConfig } from '@accel/eval';

/** What runs when no config is given: every task at the shortest of RULER's lengths. */
const DEFAULT_CONFIG = 'benchmark_name: RULER\nlength: [4096]\nnum_samples: 10\n';

/** The embedded model never saw RULER's worked example and mistakes it for the question. */
const EMBEDDED_CONFIG = `${DEFAULT_CONFIG}worked_example: false\n`;

/** Where a benchmark comes from. */
export interface BenchmarkSource {
  /** YAML file; default all tasks at 4K. */
  readonly path: string | undefined;
  /** The model is the embedded one, so the default config is the one made for it. */
  readonly embedded: boolean;
}

/**
 * Reads a benchmark config and puts what the command line says over it.
 *
 * @throws AccelError ERR_ACCEL_FILE or ERR_ACCEL_CONFIG with file, line and column
 */
export async function loadBenchmark(
  { path, embedded }: BenchmarkSource,
  changes: Partial<BenchmarkConfig>,
): Promise<BenchmarkConfig> {
  const config =
    path === undefined
      ? parseBenchmarkConfig(embedded ? EMBEDDED_CONFIG : DEFAULT_CONFIG)
      : await readBenchmarkConfig(path);
  return { ...config, ...changes };
}
