import { Command, Option } from 'commander';
import { runDemo } from '../demo.js';
import { UsageError } from '../errors.js';
import { evaluate } from '../evaluate.js';
import { listSnakeCase } from '../help.js';
import type { Io } from '../io.js';
import { parseConfigs, resolvePolicies } from '../methods/policy.js';
import { outputFolder } from '../output-folder.js';
import { loadBenchmark } from '../benchmark.js';
import { openModel } from '../model.js';
import {
  collect,
  numberOption,
  parseDevice,
  parseDtype,
  parseLengths,
  splitList,
  type DtypeName,
} from '../values.js';

/** Options of `accel eval` as commander reads them. */
export interface EvalCliOptions {
  demo?: boolean;
  modelPath?: string;
  cfgPath?: string;
  acceleration: string[];
  config?: string[];
  tasks?: string[];
  lengths?: string[];
  limit?: number;
  seed?: number;
  device?: string[];
  torchDtype: DtypeName;
  essayPath?: string;
  wordsPath?: string;
  punktPath?: string;
  outputDir: string;
  saveTag?: string;
  resume?: boolean;
  strict?: boolean;
  byTask?: boolean;
}

/** `accel eval`: scores methods on a benchmark. */
export function evalCommand(io: Io): Command {
  const command = new Command('eval')
    .summary('score methods on a long-context benchmark')
    .description(
      'Score acceleration methods on a long-context benchmark (RULER).\n' +
        'Progress goes to standard error, the table to standard output, every record and a summary to files.',
    )
    .option('--demo', 'the fixed comparison of npm run demo, about three minutes on two cores')
    .option(
      '--model-path <model>',
      'folder, .gguf file, or org/name of accel pull (default: the embedded needle model)',
    )
    .option('--cfg-path <yaml>', 'benchmark config; without one, all tasks at 4K, 10 samples each')
    .addOption(
      new Option(
        '--acceleration <methods...>',
        'methods to compare, any case, with commas; + composes; full for none',
      ).default(['full'], 'full'),
    )
    .option(
      '--config <method=yaml>',
      "a method's options: a YAML file, or paper or loom; may be repeated",
      collect,
    )
    .option('--tasks <names...>', 'only these tasks')
    .option('--lengths <tokens...>', 'only these prompt lengths, such as 4096 or 8k')
    .option(
      '--limit <n>',
      'only the first n samples of each task and length; -1 for all',
      numberOption('--limit', { min: -1, integer: true }),
    )
    .option(
      '--seed <n>',
      'seed of the samples',
      numberOption('--seed', { min: 0, max: 0xffffffff, integer: true }),
    )
    .option('--device <id...>', 'cpu, cuda or cuda:N (a number N means cuda:N)')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .option('--essay-path <file>', 'text the needles hide in (default: Moby-Dick)')
    .option('--words-path <dir>', 'word lists for the keys')
    .option('--punkt-path <json>', 'Punkt sentence splitter parameters')
    .option('--output-dir <dir>', 'where result folders go', 'results')
    .option('--save-tag <name>', 'name of the result folder (default: model and time)')
    .option('--resume', 'continue the run in the folder of --save-tag')
    .option('--strict', 'fail when a method never acted or a fallback ran')
    .option('--by-task', 'print one row a task instead of means')
    .action((options: EvalCliOptions) => runEvalCommand(io, options));
  return listSnakeCase(command);
}

async function runEvalCommand(io: Io, options: EvalCliOptions): Promise<void> {
  if (options.demo === true) return runDemo(io, options);
  if (options.limit === 0) throw new UsageError('--limit 0 leaves nothing to run. Use -1 for all.');
  const configs = parseConfigs(options.config ?? []);
  const methods = await resolvePolicies(options.acceleration, configs);
  const source = { path: options.cfgPath, embedded: options.modelPath === undefined };
  const benchmark = await loadBenchmark(source, {
    ...(options.tasks !== undefined && { tasks: splitList(options.tasks) }),
    ...(options.lengths !== undefined && { lengths: parseLengths(options.lengths) }),
    ...(options.seed !== undefined && { seed: options.seed }),
    ...(options.essayPath !== undefined && { essayPath: options.essayPath }),
    ...(options.wordsPath !== undefined && { wordsPath: options.wordsPath }),
    ...(options.punktPath !== undefined && { punktPath: options.punktPath }),
  });
  const device = parseDevice(options.device);
  const output = await outputFolder(options, options.modelPath ?? 'needle-7m');
  using model = await openModel(io, { path: options.modelPath, device, dtype: options.torchDtype });
  await evaluate(io, {
    ...benchmark,
    model,
    methods,
    output,
    byTask: options.byTask === true,
    ...(options.limit !== undefined && { limit: options.limit }),
    strict: options.strict === true,
  });
}
