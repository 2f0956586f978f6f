import { basename } from 'node:path';
import {
  CHAT_NAMES,
  formatPareto,
  MODES,
  readRun,
  type EvalMethod,
  type Mode,
  type TemplateMode,
} from '@accel/eval';
import { Command } from 'commander';
import { runDemo } from '../demo.js';
import { UsageError } from '../errors.js';
import { openAnswerer } from '../eval/answerers.js';
import { loadConfig, type ConfigChanges } from '../eval/config.js';
import { evaluate, finished } from '../eval/evaluate.js';
import { addEvalOptions, type EvalCliOptions } from '../eval/options.js';
import { writeReport } from '../eval/report-file.js';
import { listSnakeCase } from '../help.js';
import type { Io } from '../io.js';
import { catalogue } from '../methods/catalogue.js';
import { parseConfigs, readPolicyFile, resolvePolicies } from '../methods/policy.js';
import { parseBudgets, parseSweeps } from '../methods/sweep.js';
import { outputFolder } from '../output-folder.js';
import { parseLengths, splitList } from '../values.js';

/** `accel eval`: scores methods on a benchmark. */
export function evalCommand(io: Io): Command {
  const command = new Command('eval')
    .summary('score methods on a long-context benchmark')
    .description(
      'Score acceleration methods on RULER, LongBench, NIAH or by perplexity.\n' +
        'Progress goes to standard error, the table to standard output, every record and a report to files.',
    )
    .action((options: EvalCliOptions) => runEvalCommand(io, options));
  return listSnakeCase(addEvalOptions(command));
}

async function runEvalCommand(io: Io, options: EvalCliOptions): Promise<void> {
  if (options.demo === true) return runDemo(io, options);
  if (options.limit === 0) throw new UsageError('--limit 0 leaves nothing to run. Use -1 for all.');
  const methods = await methodsOf(options);
  if (options.budgets !== undefined && !methods.some(({ name }) => name.includes('@'))) {
    io.stderr.write('Note: --budgets has no effect, because no method named here keeps rows.\n');
  }
  const config = await loadConfig(
    {
      path: options.cfgPath,
      benchmark: options.benchmark,
      embedded: options.modelPath === undefined,
    },
    changesOf(options),
    (message) => void io.stderr.write(`${message}\n`),
  );
  const output = await outputFolder(options, options.modelPath ?? 'needle-7m');
  await using answerer = await openAnswerer(io, options, methods, basename(output));
  const { limit, maxLength, strict = false, byTask = false } = options;
  const summary = await evaluate(io, {
    ...answerer,
    config,
    methods,
    output,
    strict,
    byTask,
    command: ['accel', ...process.argv.slice(2)],
    ...(limit !== undefined && { limit }),
    ...(maxLength !== undefined && { maxLength }),
  });
  if (options.budgets !== undefined || options.sweep !== undefined) {
    io.stdout.write(`\n${formatPareto([await readRun(output)])}\n`);
  }
  const files = options.report
    ? `${await writeReport(output)}, records and run.json`
    : 'Records, run.json and summary.json';
  io.stderr.write(finished(io, summary, output, files));
}

async function methodsOf(options: EvalCliOptions): Promise<EvalMethod[]> {
  const words = splitList(options.acceleration);
  const names = words.flatMap((word) =>
    word.toLowerCase() === 'all' ? ['full', ...catalogue.map(({ title }) => title)] : [word],
  );
  const sweep = {
    budgets: parseBudgets(options.budgets ?? []),
    options: parseSweeps(options.sweep ?? []),
  };
  // The seed toolkit's default is an empty name: no method.
  const specs = options.acceleration.every((word) => word === '') ? ['full'] : names;
  const policies = await resolvePolicies(specs, parseConfigs(options.config ?? []), sweep);
  const files = await Promise.all((options.policy ?? []).map(readPolicyFile));
  return [...policies, ...files];
}

/** What of the command line is put over the config. */
function changesOf(options: EvalCliOptions): ConfigChanges {
  const { tasks, lengths, modes, template, seed } = options;
  const { essayPath, wordsPath, punktPath, dataPath } = options;
  return {
    ...(tasks !== undefined && { tasks: splitList(tasks) }),
    ...(lengths !== undefined && { lengths: parseLengths(lengths) }),
    ...(modes !== undefined && { modes: splitList(modes).map(parseMode) }),
    ...(template !== undefined && { template: parseTemplate(template) }),
    ...(seed !== undefined && { seed }),
    ...(essayPath !== undefined && { essayPath }),
    ...(wordsPath !== undefined && { wordsPath }),
    ...(punktPath !== undefined && { punktPath }),
    ...(dataPath !== undefined && { dataPath }),
  };
}

function parseMode(word: string): Mode {
  const mode = MODES.find((known) => known === word.toLowerCase());
  if (mode !== undefined) return mode;
  throw new UsageError(`there is no mode "${word}". Use ${MODES.join(', ')}.`);
}

function parseTemplate(word: string): TemplateMode {
  switch (word.toLowerCase()) {
    case 'auto':
      return 'auto';
    case 'null':
    case 'none':
    case 'default':
      return 'none';
    case 'model':
      return 'model';
    default:
      // The original toolkit's names stand for templates that the models bring along here.
      if (CHAT_NAMES.includes(word)) return 'model';
      throw new UsageError(
        `there is no template "${word}". Use auto, model, NULL, or a name of the original toolkit: ${CHAT_NAMES.join(', ')}.`,
      );
  }
}
