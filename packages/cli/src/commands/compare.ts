import { compare, formatComparison, readRun, type ComparedSide } from '@accel/eval';
import { Command } from 'commander';
import { UsageError } from '../errors.js';
import { listSnakeCase } from '../help.js';
import type { Io } from '../io.js';
import { splitList } from '../values.js';

interface CompareCliOptions {
  readonly method?: string[];
  readonly baseline?: string;
  readonly json?: boolean;
}

/** `accel compare`: two runs, or methods of one run, sample by sample. */
export function compareCommand(io: Io): Command {
  const command = new Command('compare')
    .summary('compare two runs, or methods of a run, sample by sample')
    .description(
      'Compare scores of the same samples: each method in two runs, or methods of one run with one of them.\n' +
        'Differences have bootstrap intervals, p values come from a permutation test of the pairs. Runs of\n' +
        'other samples (seed, data, settings) are refused.',
    )
    .argument('<runA>', 'folder of the run with the baseline')
    .argument('[runB]', 'folder of the other run (default: the same run)')
    .option('--method <names...>', 'only these methods')
    .option(
      '--baseline <name>',
      'method to compare with (default: in one run full, in two runs the same method)',
    )
    .option('--json', 'print JSON')
    .action((runA: string, runB: string | undefined, options: CompareCliOptions) =>
      runCompare(io, runA, runB, options),
    );
  return listSnakeCase(command);
}

async function runCompare(
  io: Io,
  runA: string,
  runB: string | undefined,
  options: CompareCliOptions,
): Promise<void> {
  const pairs = await sides(runA, runB, options);
  const comparisons = pairs.flatMap(([baseline, other]) => compare(baseline, other));
  io.stdout.write(
    options.json === true
      ? `${JSON.stringify(comparisons, null, 2)}\n`
      : `${comparisons.map(formatComparison).join('\n\n')}\n`,
  );
}

async function sides(
  runA: string,
  runB: string | undefined,
  options: CompareCliOptions,
): Promise<[ComparedSide, ComparedSide][]> {
  const left = await readRun(runA);
  const right = runB === undefined ? left : await readRun(runB);
  const baseline = options.baseline ?? (runB === undefined ? 'full' : undefined);
  const methods =
    options.method === undefined
      ? right.summary.methods.filter((method) =>
          baseline === undefined
            ? left.summary.methods.includes(method)
            : runB !== undefined || method !== baseline,
        )
      : splitList(options.method);
  if (methods.length === 0) {
    throw new UsageError(
      runB === undefined
        ? `${left.name} has no method besides ${baseline ?? ''}. Name a second run.`
        : `${left.name} and ${right.name} have no method in common (${left.summary.methods.join(', ')}; ${right.summary.methods.join(', ')}). Choose with --baseline and --method.`,
    );
  }
  return methods.map((method) => [
    { run: left, method: baseline ?? method },
    { run: right, method },
  ]);
}
