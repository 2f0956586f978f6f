import type { PrefillPart } from '@accel/core';
import { Command } from 'commander';
import { UsageError } from '../errors.js';
import { listSnakeCase } from '../help.js';
import { mapAttention, type AttentionMap } from '../inspect/attention-map.js';
import { assertFolder, writeWhole } from '../inspect/output.js';
import { renderPage, summaryValues } from '../inspect/page.js';
import { readTokens } from '../inspect/texts.js';
import type { Io } from '../io.js';
import { parseConfigs, resolvePolicy, type NamedPolicy } from '../methods/policy.js';
import { openModel } from '../model.js';
import { colorsFor } from '../ui/colors.js';
import { Progress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { collect, numberOption, parseDevice, parseDtype, type DtypeName } from '../values.js';
import { version } from '../version.js';

interface InspectCliOptions {
  attention?: boolean;
  modelPath?: string;
  acceleration: string;
  config?: string[];
  promptFile?: string;
  tokens?: number;
  output: string;
  device?: string;
  torchDtype: DtypeName;
}

/** `accel inspect`: looks inside a model while it reads a prompt. */
export function inspectCommand(io: Io): Command {
  const command = new Command('inspect')
    .summary('show which blocks of attention a method computes')
    .description(
      'Show what a sparse prefill does to a prompt: one HTML file with, for every layer and head, the\n' +
        'blocks that were computed beside where the attention lies. It opens offline.',
    )
    .option('--attention', 'what to inspect: the blocks of the attention of a prompt')
    .option(
      '--model-path <dir>',
      'Hugging Face model directory (default: the embedded needle model)',
    )
    .option(
      '--acceleration <method>',
      'XAttention, FlexPrefill or another method that chooses blocks; full for none',
      'full',
    )
    .option('--config <method=yaml>', "a method's options: a YAML file, or paper or loom", collect)
    .option('--prompt-file <path>', 'read the prompt from a file (default: a needle in an essay)')
    .option(
      '--tokens <n>',
      'length of the made-up prompt, or where that of a file is cut (default: 4096, the whole file)',
      numberOption('--tokens', { min: 1, integer: true }),
    )
    .option('--output <file>', 'the HTML file', 'attention.html')
    .option('--device <id>', 'cpu, cuda or cuda:N (a number N means cuda:N)')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .action((options: InspectCliOptions) => runInspect(io, options));
  return listSnakeCase(command);
}

async function runInspect(io: Io, options: InspectCliOptions): Promise<void> {
  if (options.attention !== true) {
    throw new UsageError(
      'say what to inspect. There is --attention: the blocks of attention that a method computes, as an HTML page.',
    );
  }
  const named = await resolvePolicy(options.acceleration, parseConfigs(options.config ?? []));
  const part = prefillPart(named);
  await assertFolder(options.output);
  const device = parseDevice(options.device === undefined ? undefined : [options.device]);
  using model = await openModel(io, {
    path: options.modelPath,
    device,
    dtype: options.torchDtype,
  });
  const { tokens, source } = await readTokens(model, options.promptFile, options.tokens);
  const progress = new Progress(io.stderr, {
    label: 'inspecting',
    total: model.spec.layers,
    colors: colorsFor(io.stderr, io.env),
    format: (done, total) => `${done}/${total} layers`,
  });
  let map: AttentionMap;
  try {
    map = await mapAttention(model, tokens, part, {
      signal: io.signal,
      onProgress: ({ layer }) => progress.update(layer + 1),
    });
  } finally {
    progress.close();
  }
  const page = renderPage(map, {
    model: model.spec.name,
    method: named.name,
    options: part === undefined ? undefined : JSON.stringify(part.options),
    dtype: model.dtype,
    device: model.device.info.name,
    text: source,
    version: version(),
    date: new Date().toISOString().slice(0, 10),
  });
  await writeWhole(options.output, page);
  io.stdout.write(renderSummary(io, map));
  if (part !== undefined) io.stderr.write(allDense(named.name, map));
  io.stderr.write(colorsFor(io.stderr, io.env).dim(`Wrote ${options.output}.`) + '\n');
}

/** The one part of a policy that chooses blocks; undefined for full attention. */
function prefillPart({ name, policy }: NamedPolicy): PrefillPart | undefined {
  const part = policy.parts.find(({ slot }) => slot === 'prefill');
  const others = policy.parts.filter((other) => other !== part);
  if (others.length > 0) {
    throw new UsageError(
      `${name} does more than choose blocks of attention (${others.map(({ id, slot }) => `${id} in slot ${slot}`).join(', ')}). ` +
        '--attention takes one method of the slot prefill, such as XAttention or FlexPrefill, or full.',
    );
  }
  return part as PrefillPart | undefined;
}

/** Why a method had nothing to do, if it had not; empty otherwise. */
function allDense(method: string, { layers }: AttentionMap): string {
  const spans = layers.flatMap((layer) => layer.spans);
  if (spans.some(({ state }) => state === 'chosen')) return '';
  const reason = spans.findLast(({ state }) => state === 'dense')?.reason ?? 'unknown';
  return (
    `${method} chose no blocks: ${reason}. Give a longer prompt, or a --config with a lower limit ` +
    '(XAttention: dense; FlexPrefill: minBudget).\n'
  );
}

/** A line for each layer: means over heads, and the worst row block of any. */
function renderSummary(io: Io, map: AttentionMap): string {
  const columns = [
    { title: 'layer', align: 'right' },
    { title: 'density %', align: 'right' },
    { title: 'estimated recall %', align: 'right' },
    { title: 'true recall %', align: 'right' },
    { title: 'least %', align: 'right' },
    { title: 'dense row blocks', align: 'right' },
  ] as const;
  const percent = (share: number): string => (Number.isNaN(share) ? '-' : (100 * share).toFixed(1));
  const rows = map.layers.map((layer, index) => {
    const values = layer.heads.map(summaryValues);
    const column = (measure: number): number[] =>
      values.map((list) => list[measure] ?? null).filter((value) => value !== null);
    const mean = (list: readonly number[]): number =>
      list.reduce((sum, value) => sum + value, 0) / list.length;
    const dense = layer.spans
      .filter(({ state }) => state === 'dense')
      .reduce((sum, { first, end }) => sum + end - first, 0);
    return [
      String(index),
      percent(mean(column(0))),
      percent(mean(column(1))),
      percent(mean(column(2))),
      percent(Math.min(...column(3))),
      `${dense} of ${map.blocks}`,
    ];
  });
  return renderTable(columns, rows, colorsFor(io.stdout, io.env).bold);
}
