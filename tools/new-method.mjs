#!/usr/bin/env node
/**
 * Starts a method package as a renamed copy of packages/snapkv, the template.
 *
 *   pnpm new-method quill Quill
 *
 * The first name is the folder and package name (@accel/quill), the second how the paper writes it.
 * The copy builds and passes its tests: it still is SnapKV under another name, to be changed from there.
 */
import { cpSync, existsSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const TEMPLATE = { id: 'snapkv', title: 'SnapKV' };
const LEFT_OUT = ['node_modules', 'dist', 'build', '.turbo', 'coverage', 'CHANGELOG.md'];

const [id, title] = process.argv.slice(2);
if (!/^[a-z][a-z0-9]*$/.test(id ?? '') || !/^[A-Z][A-Za-z0-9]*$/.test(title ?? '')) {
  console.error('usage: pnpm new-method NAME TITLE, for example: pnpm new-method quill Quill');
  console.error(
    'NAME has lower-case letters and digits; TITLE is the name as the paper writes it.',
  );
  process.exit(2);
}
const target = join(root, 'packages', id);
if (existsSync(target)) {
  console.error(`packages/${id} exists already. Choose another name or remove it first.`);
  process.exit(1);
}

/** Every spelling the template uses, longest information first. */
const renames = [
  [TEMPLATE.title, title],
  [capitalise(TEMPLATE.id), capitalise(id)],
  [TEMPLATE.id.toUpperCase(), id.toUpperCase()],
  [TEMPLATE.id, id],
];

function capitalise(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

function renamed(text) {
  return renames.reduce((result, [from, to]) => result.replaceAll(from, to), text);
}

function renameIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) renameIn(path);
    else writeFileSync(path, renamed(readFileSync(path, 'utf8')));
    if (renamed(entry.name) !== entry.name) renameSync(path, join(folder, renamed(entry.name)));
  }
}

cpSync(join(root, 'packages', TEMPLATE.id), target, {
  recursive: true,
  filter: (source) => !LEFT_OUT.includes(basename(source)),
});
renameIn(target);

const manifestPath = join(target, 'package.json');
const manifest = JSON.parse(readFileSync(manifestPath, 'utf8'));
manifest.version = '0.0.0';
writeFileSync(manifestPath, `${JSON.stringify(manifest, null, 2)}\n`);

console.log(`packages/${id} is a renamed copy of packages/${TEMPLATE.id}. Next:
  pnpm install
  pnpm --dir packages/${id} build:native
  pnpm vitest packages/${id}
Then make it your method: CONTRIBUTING.md, "Adding a method".`);
