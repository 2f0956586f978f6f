/**
 * Reads the manifests and import lines of a repository and says what breaks the agreements in rules.mjs.
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import * as rules from './rules.mjs';

/**
 * @typedef {object} Member one workspace package
 * @property {string} name manifest name
 * @property {string} folder path below the root, with forward slashes
 * @property {string} path absolute path
 * @property {'kernels' | 'infrastructure' | 'method' | 'example' | 'tool'} kind
 * @property {number} layer
 * @property {Record<string, any>} manifest
 */

const SOURCE_FOLDERS = ['src', 'ts'];
const SOURCE_FILE = /\.(ts|mts|js|mjs)$/;
const TEST_FILE = /\.(test|test-d|bench)\.[a-z]+$/;
/** `from '@accel/x'`, `import '@accel/x'` and `import('@accel/x')`, with or without a subpath. */
const SCOPED_IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*)['"](@accel\/[a-z0-9-]+)/g;

/** Lines that are comments; examples in TSDoc import packages the code does not. */
const COMMENT_LINE = /^\s*(\*|\/\/|\/\*).*$/gm;

/** @returns {string[]} names of the folders in `path`; none if it does not exist */
function folders(path) {
  if (!existsSync(path)) return [];
  return readdirSync(path).filter((name) => statSync(join(path, name)).isDirectory());
}

/** @returns {Member[]} */
function members(root, problems) {
  const found = [];
  const add = (folder, kind, layer) => {
    const path = join(root, folder);
    const manifestPath = join(path, 'package.json');
    if (!existsSync(manifestPath)) {
      // tools/ also holds things that are not npm packages; packages/ and examples/ do not.
      if (kind !== 'tool') problems.push(`${folder}: package.json is missing`);
      return;
    }
    const manifest = JSON.parse(readFileSync(manifestPath, 'utf8'));
    found.push({ name: manifest.name, folder, path, kind, layer, manifest });
  };
  if (existsSync(join(root, 'kernels'))) add('kernels', 'kernels', rules.KERNELS_LAYER);
  for (const name of folders(join(root, 'packages'))) {
    const layer = rules.INFRASTRUCTURE[name];
    if (layer === undefined) add(`packages/${name}`, 'method', rules.METHOD_LAYER);
    else add(`packages/${name}`, 'infrastructure', layer);
  }
  for (const name of folders(join(root, 'examples'))) {
    add(`examples/${name}`, 'example', rules.EXAMPLE_LAYER);
  }
  for (const name of folders(join(root, 'tools'))) add(`tools/${name}`, 'tool', rules.TOOL_LAYER);
  return found;
}

/** Files, scripts, exports and names. */
function checkShape(member, problems) {
  const { folder, path, kind, manifest } = member;
  const say = (text) => problems.push(`${folder}: ${text}`);

  const expectedName = `@accel/${basename(folder)}`;
  if ((kind === 'method' || kind === 'infrastructure') && member.name !== expectedName) {
    say(`package.json: the name is "${member.name}", the folder says "${expectedName}"`);
  }
  if (manifest.private !== true) {
    for (const file of rules.PUBLIC_FILES) {
      if (!existsSync(join(path, file))) say(`${file} is missing`);
    }
    for (const [field, value] of Object.entries(rules.PUBLIC_FIELDS)) {
      if (manifest[field] !== value) say(`package.json: "${field}" must be "${value}"`);
    }
    for (const entry of ['.', './package.json']) {
      if (manifest.exports?.[entry] === undefined) say(`package.json: "exports" lacks "${entry}"`);
      if (manifest.publishConfig?.exports?.[entry] === undefined) {
        say(`package.json: "publishConfig.exports" lacks "${entry}"`);
      }
    }
    const inTree = Object.keys(manifest.exports ?? {})
      .sort()
      .join(' ');
    const published = Object.keys(manifest.publishConfig?.exports ?? {})
      .sort()
      .join(' ');
    if (inTree !== published) {
      say(`package.json: "exports" (${inTree}) and "publishConfig.exports" (${published}) differ`);
    }
  }
  if (kind === 'example' && manifest.scripts?.start === undefined) {
    say('package.json: an example needs a "start" script that runs it');
  }
  if (kind !== 'method') return;
  const hasKernels = !rules.METHODS_WITHOUT_KERNELS.includes(basename(folder));
  const expected = (all, ofKernels) =>
    hasKernels ? all : all.filter((name) => !ofKernels.includes(name));
  for (const file of expected(rules.METHOD_FILES, rules.KERNEL_FILES)) {
    if (!existsSync(join(path, file))) say(`${file} is missing`);
  }
  for (const script of expected(rules.METHOD_SCRIPTS, rules.KERNEL_SCRIPTS)) {
    if (manifest.scripts?.[script] === undefined)
      say(`package.json: script "${script}" is missing`);
  }
  if (!hasKernels && existsSync(join(path, 'kernels'))) {
    say(
      'kernels/ exists, but METHODS_WITHOUT_KERNELS in tools/check-layout/src/rules.mjs lists the method',
    );
  }
  if (manifest.private === true) say('package.json: a method package is published, not private');
}

/** @returns {Iterable<string>} source files of a package, tests excluded */
function* sourceFiles(path) {
  for (const name of readdirSync(path)) {
    const file = join(path, name);
    if (statSync(file).isDirectory()) yield* sourceFiles(file);
    else if (SOURCE_FILE.test(name) && !TEST_FILE.test(name)) yield file;
  }
}

/** @returns {Map<string, string>} imported `@accel/*` package to the first file that imports it */
function importedPackages(member) {
  const imported = new Map();
  for (const folder of SOURCE_FOLDERS) {
    const path = join(member.path, folder);
    if (!existsSync(path)) continue;
    for (const file of sourceFiles(path)) {
      const code = readFileSync(file, 'utf8').replace(COMMENT_LINE, '');
      for (const [, name] of code.matchAll(SCOPED_IMPORT)) {
        if (!imported.has(name)) imported.set(name, relative(member.path, file));
      }
    }
  }
  return imported;
}

/** @returns {string | undefined} why `from` must not need `to` at run time */
function forbidden(from, to) {
  if (rules.TEST_ONLY.includes(to.name)) {
    return from.kind === 'example' || from.kind === 'tool' || from.manifest.private === true
      ? undefined
      : `${to.name} is for tests: move it to devDependencies`;
  }
  if (from.kind === 'method' && to.kind === 'method') {
    const allowed = rules.METHOD_BUILDS_ON[basename(from.folder)] ?? [];
    return allowed.includes(basename(to.folder))
      ? undefined
      : 'a method uses another method only where its paper builds on it (METHOD_BUILDS_ON in tools/check-layout/src/rules.mjs)';
  }
  if (to.layer < from.layer) return undefined;
  return 'dependencies point one way: cli, server, examples → eval → methods → core → kernels';
}

/** Direction of dependencies, and that imports are declared. */
function checkDependencies(member, byName, problems) {
  const { manifest, folder } = member;
  const runTime = {
    ...manifest.dependencies,
    ...manifest.peerDependencies,
    ...manifest.optionalDependencies,
  };
  for (const name of Object.keys(runTime)) {
    const target = byName.get(name);
    if (target === undefined) {
      if (name.startsWith('@accel/')) problems.push(`${folder}: ${name} is not in this repository`);
      continue;
    }
    const reason = forbidden(member, target);
    if (reason !== undefined) problems.push(`${folder}: must not depend on ${name}: ${reason}`);
    const range = runTime[name];
    if (manifest.private !== true && !range.startsWith('workspace:')) {
      problems.push(`${folder}: ${name} must be "workspace:^", not "${range}"`);
    }
  }
  for (const [name, file] of importedPackages(member)) {
    if (name !== member.name && runTime[name] === undefined) {
      problems.push(`${folder}/${file}: imports ${name}, which package.json does not depend on`);
    }
  }
}

/** A cycle through any kind of dependency would leave turbo without a build order. */
function checkCycles(all, byName, problems) {
  const state = new Map();
  const visit = (member, trail) => {
    if (state.get(member.name) === 'done') return;
    if (state.get(member.name) === 'open') {
      const cycle = [...trail.slice(trail.indexOf(member.name)), member.name];
      problems.push(`dependency cycle: ${cycle.join(' → ')}`);
      return;
    }
    state.set(member.name, 'open');
    const { dependencies, devDependencies, peerDependencies } = member.manifest;
    for (const name of Object.keys({ ...dependencies, ...devDependencies, ...peerDependencies })) {
      const next = byName.get(name);
      if (next !== undefined) visit(next, [...trail, member.name]);
    }
    state.set(member.name, 'done');
  };
  for (const member of all) visit(member, []);
}

/**
 * Checks the repository at `root`.
 *
 * @param {string} root absolute path
 * @returns {{ problems: string[], packages: number, methods: number }} one line a problem, ready to print
 */
export function checkRepository(root) {
  const problems = [];
  const all = members(root, problems);
  const byName = new Map(all.map((member) => [member.name, member]));
  for (const member of all) {
    checkShape(member, problems);
    checkDependencies(member, byName, problems);
  }
  checkCycles(all, byName, problems);
  return {
    problems,
    packages: all.length,
    methods: all.filter((member) => member.kind === 'method').length,
  };
}
