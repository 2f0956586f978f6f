import { modelFamilies } from '@accel/core';
import { wrap } from '../help.js';
import type { MethodInfo, Partner } from '../methods/matrix.js';
import type { Colors } from './colors.js';
import { renderTable } from './table.js';

/** Width of everything printed here. */
const WIDTH = 100;

/** The methods, then which of the installed ones go together and why not. */
export function renderMethods(methods: readonly MethodInfo[], colors: Colors): string {
  return `${renderList(methods, colors)}\n${renderMatrix(methods, colors)}`;
}

function renderList(methods: readonly MethodInfo[], colors: Colors): string {
  const rows = methods.map((method, index) => [
    String(index + 1),
    method.title,
    method.slots.join(', '),
    method.devices.join(', '),
    listFamilies(method.models),
    method.paper,
    method.installed ? Object.keys(method.presets).join(', ') : colors.dim('not installed'),
  ]);
  const columns = [
    { title: '#', align: 'right' },
    { title: 'method' },
    { title: 'slots' },
    { title: 'devices' },
    { title: 'models' },
    { title: 'paper' },
    { title: 'presets' },
  ] as const;
  const missing = methods.filter((method) => !method.installed);
  return [
    renderTable(columns, rows, colors.bold),
    ...refusals(methods).map((text) => note('*', text)),
    ...methods.flatMap(({ title, problem }) =>
      problem === undefined ? [] : [note('!', `${title} cannot compute here: ${problem}`)],
    ),
    ...(missing.length === 0
      ? []
      : [note('', `Not installed: npm i ${missing.map((method) => method.package).join(' ')}`)]),
  ].join('');
}

/** The families a method runs on; a star means that some of their models are refused. */
function listFamilies(models: MethodInfo['models']): string {
  const star = (all: boolean): string => (all ? '' : '*');
  if (models.length === modelFamilies.length) {
    return `all${star(models.every(({ refused }) => refused.length === 0))}`;
  }
  return models.map(({ family, refused }) => family + star(refused.length === 0)).join(', ');
}

/** Sentences about the models that methods refuse. */
function refusals(methods: readonly MethodInfo[]): string[] {
  return methods.flatMap(({ title, models }) => {
    const families = new Map<string, string[]>();
    for (const { family, refused } of models) {
      for (const { models: which, why } of refused) {
        const key = `${which}: ${why}`;
        families.set(key, [...(families.get(key) ?? []), family]);
      }
    }
    return [...families].map(([key, names]) => {
      const all = names.length === modelFamilies.length;
      return `${title} by default does not run on ${all ? 'models' : names.join(', ')} with ${key}`;
    });
  });
}

function renderMatrix(methods: readonly MethodInfo[], colors: Colors): string {
  const shown = methods.flatMap((method, index) =>
    method.installed ? [{ method, number: String(index + 1) }] : [],
  );
  const reasons = new Map<string, string>();
  const warned = new Map<string, string[]>();
  const mark = (method: MethodInfo, partner: Partner | undefined): string => {
    if (partner === undefined) return colors.dim('·');
    if (!partner.legal) {
      const reason = partner.problems.join('; ');
      const letter = reasons.get(reason) ?? String.fromCharCode(97 + reasons.size);
      reasons.set(reason, letter);
      return colors.red(letter);
    }
    for (const warning of partner.warnings) {
      const other = methods.find(({ id }) => id === partner.id);
      const pairs = warned.get(warning) ?? [];
      // Every pair comes twice.
      if (!pairs.includes(`${other?.title}+${method.title}`)) {
        warned.set(warning, [...pairs, `${method.title}+${other?.title}`]);
      }
    }
    return partner.warnings.length === 0 ? colors.green('✓') : colors.yellow('!');
  };
  const rows = shown.map(({ method, number }) => [
    number,
    method.title,
    ...shown.map((other) =>
      mark(
        method,
        method.partners.find(({ id }) => id === other.method.id),
      ),
    ),
  ]);
  const columns = [
    { title: '#', align: 'right' },
    { title: 'with' },
    ...shown.map(({ number }) => ({ title: number, align: 'right' }) as const),
  ] as const;
  return [
    `${colors.bold('Which go together')}, as in --acceleration SnapKV+PyramidKV:\n\n`,
    renderTable(columns, rows, colors.bold),
    note('✓', 'go together'),
    ...[...warned].map(([why, pairs]) => note('!', `${pairs.join(', ')}: ${why}`)),
    ...[...reasons].map(([reason, letter]) => note(letter, reason)),
  ].join('');
}

/** A mark and a text beside it, wrapped. */
function note(mark: string, text: string): string {
  const indent = mark === '' ? '' : '   ';
  const lines = wrap(text.split(' '), WIDTH - indent.length);
  return lines
    .map((line, index) => `${index === 0 && mark !== '' ? mark.padEnd(3) : indent}${line}\n`)
    .join('');
}
