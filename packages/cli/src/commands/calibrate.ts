import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import type { Stride } from '@accel/xattention';
import { Command } from 'commander';
import { UsageError } from '../errors.js';
import { listSnakeCase } from '../help.js';
import {
  findThresholds,
  planOf,
  readCalibrationTexts,
  type CalibrationSettings,
} from '../inspect/calibration.js';
import { assertFolder } from '../inspect/output.js';
import type { Io } from '../io.js';
import { findMethod, requireMethod } from '../methods/registry.js';
import { openModel } from '../model.js';
import { colorsFor } from '../ui/colors.js';
import { Progress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { numberOption, parseDevice, parseDtype, type DtypeName } from '../values.js';
import { version } from '../version.js';

interface CalibrateCliOptions {
  modelPath?: string;
  text: string[];
  tokens: number;
  stride: Stride;
  coverage: number;
  output: string;
  device?: string;
  torchDtype: DtypeName;
}

/** `accel calibrate`: finds settings of a method for a model. */
export function calibrateCommand(io: Io): Command {
  const command = new Command('calibrate')
    .summary("find a method's settings for a model from texts")
    .description(
      "Find a method's settings for a model. XAttention: a threshold for every layer and head, with\n" +
        'which its blocks hold a share of the attention on the texts given.',
    )
    .argument('<method>', 'xattention')
    .requiredOption('--text <files...>', 'texts like those the model will read')
    .requiredOption('--output <file>', 'the plan, a JSON file')
    .option(
      '--model-path <model>',
      'folder, .gguf file, or org/name of accel pull (default: the embedded needle model)',
    )
    .option(
      '--tokens <n>',
      'cut texts into prompts of this many tokens',
      numberOption('--tokens', { min: 256, integer: true }),
      4096,
    )
    .option('--stride <n>', 'tokens between sampled antidiagonals: 4, 8, 16, 32 or 64', stride, 16)
    .option(
      '--coverage <share>',
      'share of a row of attention that its blocks must hold',
      numberOption('--coverage', { min: 0.01, max: 1 }),
      0.9,
    )
    .option('--device <id>', 'cpu, cuda or cuda:N (a number N means cuda:N)')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .action((method: string, options: CalibrateCliOptions) => runCalibrate(io, method, options));
  return listSnakeCase(command);
}

const STRIDES: readonly Stride[] = [4, 8, 16, 32, 64];

function stride(text: string): Stride {
  const found = STRIDES.find((value) => String(value) === text.trim());
  if (found !== undefined) return found;
  throw new UsageError(`--stride must be ${STRIDES.join(', ')}, not "${text}".`);
}

async function runCalibrate(io: Io, name: string, options: CalibrateCliOptions): Promise<void> {
  const entry = findMethod(name);
  if (entry.id !== 'xattention') {
    throw new UsageError(
      `${entry.title} has nothing to calibrate. XAttention has: accel calibrate xattention.`,
    );
  }
  await requireMethod(entry);
  await assertFolder(options.output);
  const xattention = await import('@accel/xattention');
  const device = parseDevice(options.device === undefined ? undefined : [options.device]);
  using model = await openModel(io, {
    path: options.modelPath,
    device,
    dtype: options.torchDtype,
  });
  const settings: CalibrationSettings = {
    stride: options.stride,
    coverage: options.coverage,
    tokens: options.tokens,
  };
  const texts = await readCalibrationTexts(model, options.text, settings.tokens);
  const pieces = texts.reduce((sum, text) => sum + text.pieces.length, 0);
  const total = pieces * model.spec.layers;
  const progress = new Progress(io.stderr, {
    label: 'calibrating',
    total,
    colors: colorsFor(io.stderr, io.env),
    format: (done) => `${Math.floor(done / model.spec.layers)}/${pieces} pieces`,
  });
  let done = 0;
  let thresholds: number[][];
  try {
    thresholds = await findThresholds(model, xattention, texts, settings, {
      signal: io.signal,
      onLayer: () => progress.update(++done),
    });
  } finally {
    progress.close();
  }
  const plan = planOf(model, thresholds, texts, settings, {
    date: new Date().toISOString().slice(0, 10),
    versions: `@accel/cli ${version()}, @accel/xattention ${xattentionVersion()}`,
  });
  await xattention.writeThresholds(resolve(options.output), plan);
  io.stdout.write(renderThresholds(io, thresholds));
  io.stderr.write(colorsFor(io.stderr, io.env).dim(`Wrote ${options.output}.`) + '\n');
}

function xattentionVersion(): string {
  const manifest = createRequire(import.meta.url)('@accel/xattention/package.json') as {
    version: string;
  };
  return manifest.version;
}

/** A line for each layer. */
function renderThresholds(io: Io, thresholds: readonly (readonly number[])[]): string {
  const columns = [
    { title: 'layer', align: 'right' },
    { title: 'least', align: 'right' },
    { title: 'mean', align: 'right' },
    { title: 'most', align: 'right' },
  ] as const;
  const rows = thresholds.map((row, layer) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
    return [
      String(layer),
      ...[Math.min(...row), mean, Math.max(...row)].map((value) => value.toFixed(4)),
    ];
  });
  return renderTable(columns, rows, colorsFor(io.stdout, io.env).bold);
}
