import { Option, type Command } from 'commander';
import { collect, numberOption, parseDtype, type DtypeName } from '../values.js';

/** Options of `accel eval` as commander reads them. */
export interface EvalCliOptions {
  demo?: boolean;
  modelPath?: string;
  cfgPath?: string;
  benchmark?: string;
  acceleration: string[];
  config?: string[];
  policy?: string[];
  budgets?: string[];
  sweep?: string[];
  tasks?: string[];
  lengths?: string[];
  modes?: string[];
  limit?: number;
  seed?: number;
  maxLength?: number;
  template?: string;
  batchSize: number;
  device?: string[];
  gpNum: string;
  torchDtype: DtypeName;
  retries?: number;
  queue?: string;
  endpoint?: string;
  endpointModel?: string;
  endpointApi: 'completions' | 'chat';
  essayPath?: string;
  wordsPath?: string;
  punktPath?: string;
  dataPath?: string;
  outputDir: string;
  saveTag?: string;
  resume?: boolean;
  strict?: boolean;
  byTask?: boolean;
  report: boolean;
}

/** Adds the options, in groups as the help shows them. */
export function addEvalOptions(command: Command): Command {
  whatIsAsked(command);
  whatIsCompared(command);
  whoAnswers(command);
  return whereResultsGo(command);
}

function whatIsAsked(command: Command): void {
  command
    .optionsGroup('What is asked:')
    .option('--demo', 'the fixed comparison of npm run demo, about three minutes on two cores')
    .option('--cfg-path <yaml>', 'benchmark config, also of the original toolkit')
    .option('--benchmark <name>', 'without a config: RULER (default), LongBench, NIAH or NLL')
    .option('--tasks <names...>', 'only these tasks')
    .option('--lengths <tokens...>', 'only these prompt lengths, such as 4096 or 8k')
    .option('--modes <modes...>', 'query-aware, query-agnostic, second-turn; reported side by side')
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
    .option(
      '--max-length <tokens>',
      'cut longer prompts in the middle',
      numberOption('--max-length', { min: 16, integer: true }),
    )
    .option('--template <name>', 'auto, model, or NULL for raw prompts; over the config')
    .option('--data-path <dir>', "LongBench's files (default: those of accel data pull)")
    .option('--essay-path <file>', 'text the needles hide in (default: Moby-Dick)')
    .option('--words-path <dir>', 'word lists for the keys')
    .option('--punkt-path <json>', 'Punkt sentence splitter parameters');
}

function whatIsCompared(command: Command): void {
  command
    .optionsGroup('What is compared:')
    .addOption(
      new Option(
        '--acceleration <methods...>',
        'methods, any case, with commas; + composes; full for none, all for each alone',
      ).default(['full'], 'full'),
    )
    .option(
      '--config <method=file>',
      "a method's options: YAML or JSON, also of the original toolkit, or paper or loom; may be repeated",
      collect,
    )
    .option('--policy <json>', 'a policy document as a further method; may be repeated', collect)
    .option('--budgets <sizes...>', 'every method that keeps rows at each of these: 512 or 25%')
    .option(
      '--sweep <method.option=values>',
      'an option at each of these values: kivi.bits=2,4; may be repeated',
      collect,
    )
    .option('--strict', 'fail when a method never acted or a fallback ran');
}

function whoAnswers(command: Command): void {
  command
    .optionsGroup('Who answers:')
    .option(
      '--model-path <model>',
      'folder, .gguf file, or org/name of accel pull (default: the embedded needle model)',
    )
    .option(
      '--device <id...>',
      'cpu, cuda or cuda:N (a number N means cuda:N); several share the work',
    )
    .option('--gp-num <n>', "GPUs of a model, or models of a GPU as in '1/2'", '1')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .option(
      '--batch-size <n>',
      'prompts that go through a model together',
      numberOption('--batch-size', { min: 1, integer: true }),
      1,
    )
    .option(
      '--retries <n>',
      'tries again after a worker has died (default: 2) or a server has failed (default: 5)',
      numberOption('--retries', { min: 0, integer: true }),
    )
    .option('--queue <url>', 'redis://host: accel worker --queue answers, on any machine')
    .option('--endpoint <url>', 'an OpenAI-compatible server answers, such as http://host:8000/v1')
    .option('--endpoint-model <name>', 'what the server calls the model')
    .addOption(
      new Option('--endpoint-api <api>', 'chat cannot begin the answer as RULER does')
        .choices(['completions', 'chat'])
        .default('completions'),
    );
}

function whereResultsGo(command: Command): Command {
  return command
    .optionsGroup('Where results go:')
    .option('--output-dir <dir>', 'where result folders go', 'results')
    .option('--save-tag <name>', 'name of the result folder (default: model and time)')
    .option('--resume', 'continue the run in the folder of --save-tag')
    .option('--by-task', 'print one row a task instead of means')
    .option('--no-report', 'leave out report.html')
    .addOption(
      new Option(
        '--eval',
        'accepted as in the original toolkit: answers are always scored',
      ).hideHelp(),
    );
}
