import type { PrefillPart } from '@accel/core';
import { UsageError } from '../errors.js';
import type { Io } from '../io.js';
import { parseConfigs, resolvePolicy, type NamedPolicy } from '../methods/policy.js';
import { openModel } from '../model.js';
import { colorsFor } from '../ui/colors.js';
import { Progress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { parseDevice, type DtypeName } from '../values.js';
import { version } from '../version.js';
import { mapAttention, type AttentionMap } from './attention-map.js';
import { assertFolder, writeWhole } from './output.js';
import { renderPage, summaryValues } from './page.js';
import { readTokens } from './texts.js';

/** What `accel inspect --attention` needs to know. */
export interface AttentionCliOptions {
  /** Model; default the embedded one. */
  readonly path: string | undefined;
  readonly acceleration: string;
  readonly config?: string[];
  readonly promptFile?: string;
  readonly tokens?: number;
  readonly output: string;
  readonly device?: string;
  readonly torchDtype: DtypeName;
}

/** `accel inspect --attention`: runs the model over a prompt and writes the page. */
export async function inspectAttention(io: Io, options: AttentionCliOptions): Promise<void> {
  const named = await resolvePolicy(options.acceleration, parseConfigs(options.config ?? []));
  const part = prefillPart(named);
  await assertFolder(options.output);
  const device = parseDevice(options.device === undefined ? undefined : [options.device]);
  using model = await openModel(io, {
    path: options.path,
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
