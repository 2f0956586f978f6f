import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The files of NLTK's `punkt_tab/english`. */
const TABLES = [
  'abbrev_types.txt',
  'collocations.tab',
  'ortho_context.tab',
  'sent_starters.txt',
] as const;

/**
 * Turns the tables of NLTK's `punkt_tab` (one entry a line, fields between tabs) into the JSON that
 * `readPunktParameters` reads, and removes them. Does nothing in a folder without the tables.
 */
export async function convertPunktTab(folder: string, file: string): Promise<void> {
  const tables = await Promise.all(TABLES.map((name) => rows(join(folder, name))));
  const [abbreviations, collocations, orthography, starters] = tables;
  if (!abbreviations || !collocations || !orthography || !starters) return;
  const ortho: [string, number][] = orthography.map(([type = '', bits]) => [type, Number(bits)]);
  const json = {
    abbrev_types: abbreviations.map(([type]) => type),
    collocations: collocations.map(([first, second]) => [first, second]),
    sent_starters: starters.map(([type]) => type),
    ortho_context: Object.fromEntries(ortho),
  };
  await writeFile(join(folder, file), JSON.stringify(json));
  await Promise.all(TABLES.map((name) => rm(join(folder, name))));
}

/** Lines in fields; undefined when there is no such file. Only `\n` ends a line: types have other separators in them. */
async function rows(path: string): Promise<string[][] | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  return text
    ?.split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/\r$/, '').split('\t'));
}
