import { relative } from 'node:path';
import {
  formatMarkdown,
  formatRunsCsv,
  formatScores,
  readRun,
  renderReport,
  type LoadedRun,
} from '@accel/eval';
import { Command } from 'commander';
import { assertFolder, writeWhole } from '../inspect/output.js';
import type { Io } from '../io.js';
import { listSnakeCase } from '../help.js';

interface ReportCliOptions {
  readonly output: string;
  readonly csv?: string;
  readonly markdown?: string;
}

/** `accel report`: what runs found, as one HTML file, and as CSV and Markdown. */
export function reportCommand(io: Io): Command {
  const command = new Command('report')
    .summary('make an HTML report of evaluation runs')
    .description(
      'Make one HTML file of one or more runs of accel eval: tables as in the papers, heat maps, what scores\n' +
        'cost in memory and time, what was evicted. It opens offline. Runs of a benchmark stand side by side.\n' +
        'A run that is not complete is reported as far as it is.',
    )
    .argument('<run...>', 'folders of runs, such as results/needle-7m')
    .option('--output <file>', 'the HTML file', 'report.html')
    .option('--csv <file>', 'also write the scores as CSV')
    .option('--markdown <file>', 'also write the tables as Markdown')
    .action((folders: string[], options: ReportCliOptions) => makeReport(io, folders, options));
  return listSnakeCase(command);
}

async function makeReport(io: Io, folders: string[], options: ReportCliOptions): Promise<void> {
  const { output, csv, markdown } = options;
  for (const file of [output, csv, markdown]) if (file !== undefined) await assertFolder(file);
  const runs = await readRuns(folders);
  await writeWhole(output, await renderReport(runs));
  if (csv !== undefined) await writeWhole(csv, formatRunsCsv(runs));
  if (markdown !== undefined) await writeWhole(markdown, formatMarkdown(runs));
  io.stdout.write(`${formatScores(runs)}\n`);
  const files = [output, csv, markdown].flatMap((file) =>
    file === undefined ? [] : relative(process.cwd(), file),
  );
  io.stderr.write(`Wrote ${files.join(', ')}.\n`);
}

/** One after another, so that the first folder that is no run is the one an error is about. */
async function readRuns(folders: readonly string[]): Promise<LoadedRun[]> {
  const runs: LoadedRun[] = [];
  for (const folder of folders) runs.push(await readRun(folder));
  return runs;
}
