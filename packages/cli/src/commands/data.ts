import { join } from 'node:path';
import { AccelError } from '@accel/core';
import {
  DATA_SETS,
  dataFolder,
  dataSet,
  locateData,
  pullData,
  readManifest,
  type DataManifest,
  type DataSet,
} from '@accel/eval';
import { Command } from 'commander';
import { formatBytes } from '../format.js';
import type { Io } from '../io.js';
import { colorsFor } from '../ui/colors.js';
import { renderTable } from '../ui/table.js';
import { TransferBar } from '../ui/transfer-bar.js';

interface PullDataCliOptions {
  from?: string;
  force?: boolean;
}

/** `accel data`: the data sets that benchmarks need and that do not come with this package. */
export function dataCommand(io: Io): Command {
  const command = new Command('data')
    .summary('list and download the data sets of benchmarks')
    .description(
      'The data sets that RULER and LongBench need and that have terms of their own. They are kept in\n' +
        '$ACCEL_DATA (default: ~/.cache/accel/data), where benchmarks look for them; configs may name\n' +
        'them as data:<set>.',
    );
  command
    .command('list')
    .summary('list the sets')
    .description('List the sets: what for, licence, size, and where they are.')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => listData(io, options.json === true));
  command
    .command('pull')
    .summary('download or import sets')
    .description(
      'Download sets, check them and put them where benchmarks look for them. An interrupted download\n' +
        'goes on where it stopped.',
    )
    .argument('<set...>', `one or more of ${DATA_SETS.map(({ name }) => name).join(', ')}`)
    .option('--from <path or url>', 'import a file or folder that you have, or another address')
    .option('--force', 'pull even what is there')
    .addHelpText(
      'after',
      '\nHF_ENDPOINT and HF_TOKEN are looked at for sets on the Hugging Face Hub.',
    )
    .action((names: string[], options: PullDataCliOptions) => pullSets(io, names, options));
  command
    .command('path')
    .summary('print where a set is')
    .description('Print where a set is.')
    .argument('<set>')
    .action((name: string) => {
      const set = dataSet(name);
      const path = locateData(set.name, io.env);
      if (path === undefined) {
        throw new AccelError(
          'ERR_ACCEL_FILE',
          `${name} is not in ${dataFolder(io.env)}. Get it with: ${howToGet(set)}`,
        );
      }
      io.stdout.write(`${path}\n`);
    });
  return command;
}

async function listData(io: Io, json: boolean): Promise<void> {
  const rows = await Promise.all(
    DATA_SETS.map(async (set) => {
      const manifest = await readManifest(join(dataFolder(io.env), set.name));
      const { name, purpose, licence, homepage, origins } = set;
      return {
        name,
        purpose,
        licence,
        homepage,
        origins: origins.map(({ from }) => from),
        bytes: manifest === undefined ? downloadBytes(set) : totalBytes(manifest),
        path: manifest === undefined ? null : (locateData(name, io.env) ?? null),
        get: howToGet(set),
      };
    }),
  );
  if (json) {
    io.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    return;
  }
  const colors = colorsFor(io.stdout, io.env);
  const columns = [
    { title: 'set' },
    { title: 'for' },
    { title: 'licence' },
    { title: 'size', align: 'right' as const },
    { title: 'where' },
  ];
  const table = rows.map(({ name, purpose, licence, bytes, path, get }) => [
    name,
    purpose,
    licence,
    bytes === null ? '' : formatBytes(bytes),
    path ?? colors.dim(get),
  ]);
  io.stdout.write(renderTable(columns, table, colors.bold));
}

async function pullSets(
  io: Io,
  names: readonly string[],
  { from, force = false }: PullDataCliOptions,
): Promise<void> {
  // All names first: a misspelled third one should not be told after two downloads.
  const sets = names.map(dataSet);
  if (from !== undefined && sets.length > 1) {
    throw new AccelError('ERR_ACCEL_ARGUMENT', '--from is one set; name only that one.');
  }
  const colors = colorsFor(io.stderr, io.env);
  for (const set of sets) {
    let bar = new TransferBar(io, `pulling ${set.name}`);
    let file = '';
    try {
      const { path, manifest, wasThere } = await pullData(set.name, {
        from,
        force,
        env: io.env,
        signal: io.signal,
        onWait: (owner) => {
          io.stderr.write(colors.dim(`waiting for ${owner}, which pulls this set\n`));
        },
        onProgress: ({ from: origin, totalBytes: total, ...moved }) => {
          if (origin !== file) {
            bar.close();
            bar = new TransferBar(io, `pulling ${set.name}`);
            file = origin;
          }
          // Without an end there is nothing to draw a bar to.
          if (total !== undefined) bar.update({ ...moved, file: origin, totalBytes: total });
        },
      });
      bar.close();
      const count = manifest.files.length === 1 ? '1 file' : `${manifest.files.length} files`;
      io.stderr.write(
        colors.dim(
          `${set.name}: ${count}, ${formatBytes(totalBytes(manifest))}${wasThere ? ', there already' : ''}; licence: ${set.licence}\n`,
        ),
      );
      io.stdout.write(`${path}\n`);
    } finally {
      bar.close();
    }
  }
}

function totalBytes({ files }: DataManifest): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** What a download takes; null where that is not known beforehand. */
function downloadBytes({ origins }: DataSet): number | null {
  const sizes = origins.map(({ bytes }) => bytes ?? Number.NaN);
  const sum = sizes.reduce((total, size) => total + size, 0);
  return sizes.length === 0 || Number.isNaN(sum) ? null : sum;
}

function howToGet({ name, origins }: DataSet): string {
  return `accel data pull ${name}${origins.length === 0 ? ' --from <file>' : ''}`;
}
