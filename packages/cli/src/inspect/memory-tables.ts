import type { MemoryEstimate } from '@accel/core';
import { formatBytes, formatCount, formatLength } from '../format.js';
import type { Colors } from '../ui/colors.js';
import { renderTable, type Column } from '../ui/table.js';
import type { Card } from './cards.js';
import type { MemoryCell, MemoryGrid, PolicyMemory } from './memory.js';

/** Total memory by policy and context, for so many sequences; what does not fit is marked. */
export function renderMemory(
  { card, dtype, contexts }: MemoryGrid,
  results: readonly PolicyMemory[],
  batch: number,
  colors: Colors,
): string {
  const all = results.flatMap(({ cells }) => cells.filter((cell) => cell.batch === batch));
  const most = Math.max(...all.map(({ estimate }) => estimate.total));
  const [unit, size] = most < 2 ** 30 ? (['MiB', 2 ** 20] as const) : (['GiB', 2 ** 30] as const);
  const columns = [
    { title: unit },
    ...contexts.map((context): Column => ({ title: formatLength(context), align: 'right' })),
  ];
  // Numbers stay in line with those that have a mark.
  const clear = all.every(({ fits }) => fits) ? '' : '  ';
  const rows = results.map(({ policy, cells }) => [
    policy,
    ...contexts.map((context) => {
      const cell = find(cells, batch, context);
      if (cell === undefined) return `-${clear}`;
      const text = amount(cell.estimate.total / size);
      return cell.fits ? `${text}${clear}` : colors.red(`${text} ✗`);
    }),
  ]);
  const sequences = batch === 1 ? '1 sequence' : `${batch} sequences`;
  const title = `Memory on ${card.name} (${formatBytes(card.bytes)}), ${dtype}, ${sequences}, by tokens of a prompt`;
  return `\n${colors.bold(title)}\n${renderTable(columns, rows, colors.bold)}`;
}

/** The caches of one sequence at the longest context. */
export function renderCaches(
  { contexts, batches }: MemoryGrid,
  results: readonly PolicyMemory[],
  colors: Colors,
): string {
  const context = Math.max(...contexts);
  const batch = Math.min(...batches);
  const columns = [
    { title: 'KV cache' },
    { title: 'prompt read', align: 'right' },
    { title: 'at most', align: 'right' },
    { title: 'a token more', align: 'right' },
  ] as const;
  const rows = results.map(({ policy, cells }) => {
    const kv = find(cells, batch, context)?.estimate.kv;
    if (kv === undefined) return [policy, '-', '-', '-'];
    const grows = kv.perToken === 0 ? 'none' : formatBytes(kv.perToken);
    return [policy, formatBytes(kv.afterPrompt), formatBytes(kv.peak), grows];
  });
  const sequences = batch === 1 ? 'one sequence' : `${batch} sequences`;
  const title = `Cache of ${sequences} of ${formatCount(context)} tokens`;
  return `\n${colors.bold(title)}\n${renderTable(columns, rows, colors.bold)}`;
}

/** What the tables are made of, and what they do not say. */
export function renderNotes(
  { card, contexts, batches }: MemoryGrid,
  results: readonly PolicyMemory[],
  contextLength: number,
): string {
  const lines: string[] = [];
  const cells = results.flatMap((result) => result.cells);
  const context = Math.max(...contexts);
  const first = find(cells, Math.max(...batches), context);
  if (first !== undefined) lines.push(...spread(first.estimate, context, card));
  if (cells.some(({ fits }) => !fits)) lines.push('✗ does not fit.');
  // What loadModel gives the cache by default.
  if (cells.some(({ fits, estimate }) => fits && estimate.kv.peak > card.bytes / 2)) {
    lines.push('Where the cache takes more than half of the memory, loadModel() needs kvBytes.');
  }
  const beyond = contexts.filter((one) => one > contextLength);
  if (beyond.length > 0) {
    lines.push(
      `The model was made for ${formatCount(contextLength)} tokens; ${beyond.map(formatLength).join(', ')} would be beyond that.`,
    );
  }
  for (const { policy, problem } of results) {
    if (problem !== undefined) lines.push(`${policy} does not go with this model: ${problem}`);
  }
  return lines.length === 0 ? '' : `\n${lines.join('\n')}\n`;
}

/** What there is besides caches, in words. */
function spread(
  { weights, workspace, driver }: MemoryEstimate,
  context: number,
  { target }: Card,
): string[] {
  const { tensors, temporary, scratch, idle } = workspace;
  const rest = formatBytes(tensors + temporary + scratch + idle);
  const lines = [
    `Weights take ${formatBytes(weights)}, activations, logits and scratch ${rest} at ${formatCount(context)} tokens.`,
    'Prompts are read one at a time.',
  ];
  if (target.kind === 'cpu') return [...lines, 'Scratch memory of threads is not counted.'];
  const own =
    driver === undefined ? 'some more, which was not measured on such a card' : formatBytes(driver);
  return [...lines, `The driver takes ${own}.`];
}

function find(
  cells: readonly MemoryCell[],
  batch: number,
  context: number,
): MemoryCell | undefined {
  return cells.find((cell) => cell.batch === batch && cell.context === context);
}

/** Three digits. */
function amount(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}
