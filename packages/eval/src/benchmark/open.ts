import type { BenchmarkConfig } from '../config/types.js';
import { openLongBench } from './longbench.js';
import { openNiah } from './niah.js';
import { openNll } from './nll.js';
import { openRuler } from './ruler.js';
import type { Benchmark } from './types.js';

/**
 * Makes the benchmark that a config describes, and reads the texts and data it is made of.
 *
 * @throws AccelError ERR_ACCEL_FILE when data is missing or has another shape, ERR_ACCEL_CONFIG, ERR_ACCEL_ARGUMENT
 */
export async function openBenchmark(config: BenchmarkConfig): Promise<Benchmark> {
  switch (config.benchmark) {
    case 'RULER':
      return openRuler(config);
    case 'LongBench':
      return openLongBench(config);
    case 'NIAH':
      return openNiah(config);
    case 'NLL':
      return openNll(config);
  }
}
