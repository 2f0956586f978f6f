import { AccelError } from '@accel/core';
import { pull, type PullResult } from '@accel/hub';
import { Command } from 'commander';
import { formatBytes, formatSeconds } from '../format.js';
import { listSnakeCase } from '../help.js';
import type { Io } from '../io.js';
import { colorsFor } from '../ui/colors.js';
import { TransferBar } from '../ui/transfer-bar.js';
import { collect, numberOption } from '../values.js';

interface PullCliOptions {
  revision?: string;
  file?: string[];
  exclude?: string[];
  endpoint?: string;
  cacheDir?: string;
  concurrency: number;
}

/** `accel pull`: downloads a model from the Hugging Face Hub. */
export function pullCommand(io: Io): Command {
  const command = new Command('pull')
    .summary('download a model from the Hugging Face Hub')
    .description(
      'Download a model from the Hugging Face Hub into the cache that Python uses too, and print its\n' +
        'folder. --model-path org/name finds it there. An interrupted download goes on where it stopped.',
    )
    .argument('<model>', 'org/name or org/name@revision')
    .option('--revision <name>', 'branch, tag or commit (default: main)')
    .option(
      '--file <pattern>',
      'only files that match, such as *Q4_K_M.gguf; may be repeated (default: config, safetensors, tokenizer)',
      collect,
    )
    .option('--exclude <pattern>', 'no files that match; may be repeated', collect)
    .option('--endpoint <url>', 'address of the Hub (default: HF_ENDPOINT, https://huggingface.co)')
    .option('--cache-dir <dir>', 'the cache (default: HF_HUB_CACHE, ~/.cache/huggingface/hub)')
    .option(
      '--concurrency <n>',
      'files at the same time',
      numberOption('--concurrency', { min: 1, max: 64, integer: true }),
      4,
    )
    .action((model: string, options: PullCliOptions) => runPull(io, model, options))
    .addHelpText(
      'after',
      '\nHF_TOKEN, or the token of "hf auth login", opens private and gated models.',
    );
  return listSnakeCase(command);
}

async function runPull(io: Io, model: string, options: PullCliOptions): Promise<void> {
  const colors = colorsFor(io.stderr, io.env);
  const display = new TransferBar(io, 'pulling');
  const began = performance.now();
  let result: PullResult;
  try {
    result = await pull(model, {
      ...(options.revision !== undefined && { revision: options.revision }),
      ...(options.file !== undefined && { include: options.file }),
      ...(options.exclude !== undefined && { exclude: options.exclude }),
      ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
      ...(options.cacheDir !== undefined && { cacheDir: options.cacheDir }),
      concurrency: options.concurrency,
      env: io.env,
      signal: io.signal,
      onProgress: (progress) => display.update(progress),
      onWait: (owner) =>
        io.stderr.write(colors.dim(`waiting for ${owner}, which pulls this model\n`)),
    });
  } catch (error) {
    display.close();
    if (AccelError.isInstance(error) && error.code === 'ERR_ACCEL_ABORTED') {
      io.stderr.write('What was received is kept; the same command goes on from there.\n');
    }
    throw error;
  }
  display.close();
  const seconds = (performance.now() - began) / 1000;
  const { files, totalBytes, downloadedBytes, path } = result;
  const news =
    downloadedBytes === 0
      ? 'all there already'
      : `${formatBytes(downloadedBytes)} downloaded in ${formatSeconds(seconds)}`;
  const count = files.length === 1 ? '1 file' : `${files.length} files`;
  io.stderr.write(colors.dim(`${count}, ${formatBytes(totalBytes)}, ${news}\n`));
  io.stdout.write(`${path}\n`);
}
