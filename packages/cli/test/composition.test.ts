import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { legality } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { accel } from './fake-io.js';

// docs/composition.md says what the table and the packages say.
const page = readFileSync(join(import.meta.dirname, '../../../docs/composition.md'), 'utf8');

/** Lines of the first table after a text, its cells without the padding that prettier adds. */
function tableAfter(text: string): string[] {
  const lines = page.slice(page.indexOf(text)).split('\n');
  const begin = lines.findIndex((line) => line.startsWith('|'));
  const end = lines.findIndex((line, index) => index > begin && !line.startsWith('|'));
  return lines.slice(begin + 2, end).map((line) => line.replaceAll(/\s+/g, ' ').trim());
}

/** `select` with `evicts: everyStep`. */
function named(pattern: Readonly<Record<string, unknown>>): string {
  const { slot, ...rest } = pattern;
  const properties = Object.entries(rest).map(([key, value]) => `\`${key}: ${String(value)}\``);
  return [`\`${String(slot)}\``, ...properties].join(' ');
}

const row = (parts: string, why: string): string => `| ${parts} | ${why} |`;
const pair = ({ a, b, why }: (typeof legality)['pairs' | 'warnings'][number]): string =>
  row(`${named(a)}, with ${named(b)}`, why);

describe('docs/composition.md', () => {
  it('has every rule of the table, and no other', () => {
    const alone = legality.companions.map(({ slot, with: companion, why }) =>
      row(`\`${slot}\`, without \`${companion}\``, why),
    );
    expect(tableAfter('<!-- rules:')).toEqual([...alone, ...legality.pairs.map(pair)]);
    expect(tableAfter('Legal, but with a warning')).toEqual(legality.warnings.map(pair));
  });

  it('has the matrix that accel methods prints', async () => {
    const { stdout } = await accel(['methods']);
    const matrix = stdout.slice(stdout.indexOf('\n', stdout.indexOf('Which go together')));
    const [, block] = /<!-- matrix:[^\n]*\n\n```text\n([^]*?)```/.exec(page) ?? [];
    expect(block?.trimEnd()).toBe(matrix.replace(/^\n+/, '').trimEnd());
  });
});
