#!/usr/bin/env node
/**
 * From a bare clone to a working tree, with nothing installed but Node, npm and a C++ toolchain.
 *
 *   node tools/bootstrap.mjs setup   check tools, get pnpm, install, build native code and TypeScript
 *   node tools/bootstrap.mjs test    the same, then every test   (this is `npm test`)
 *   node tools/bootstrap.mjs demo    the same, then the demo     (this is `npm run demo`)
 *
 * Arguments after the command go to vitest or to `accel eval`. Every step can be repeated: pnpm
 * leaves a finished install alone and turbo replays builds whose inputs did not change.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const toolsPrefix = join(root, '.tools');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const pnpmVersion = manifest.packageManager.split('@')[1];

/** What this repository needs from the system, and the command that supplies it on Debian/Ubuntu. */
const MINIMUM_NODE = [20, 19];
const MINIMUM_CMAKE = [3, 24];

function log(message) {
  console.error(`[accel] ${message}`);
}

function fail(lines) {
  console.error(['', ...lines.map((line) => `[accel] ${line}`), ''].join('\n'));
  process.exit(1);
}

/** stdout of `command`, or undefined when it is missing or fails. */
function output(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

function atLeast(version, minimum) {
  const parts = version.split('.').map(Number);
  for (const [index, wanted] of minimum.entries()) {
    const have = parts[index] ?? 0;
    if (have !== wanted) return have > wanted;
  }
  return true;
}

/** Runs `command`, shows its output, and ends the program with its exit code when it fails. */
function run(command, args, { what, env = {} }) {
  const started = Date.now();
  log(`${what} ...`);
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (result.error) fail([`${what} could not start: ${result.error.message}`]);
  if (result.status !== 0) {
    log(`${what} failed (${result.signal ?? `exit code ${result.status}`})`);
    process.exit(result.status ?? 1);
  }
  log(`${what}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

/** Collects everything that is missing, so one look tells all there is to install. */
function checkSystem() {
  const problems = [];
  if (!atLeast(process.versions.node, MINIMUM_NODE)) {
    problems.push(
      `Node ${process.versions.node} is too old: version ${MINIMUM_NODE.join('.')} or newer is needed.`,
    );
  }
  if (process.platform === 'win32') {
    problems.push('The native code builds on Linux and macOS only; use WSL on Windows.');
  }
  const cmake = /version ([\d.]+)/.exec(output('cmake', ['--version']) ?? '')?.[1];
  if (cmake === undefined) {
    problems.push(
      'cmake was not found.  Debian/Ubuntu: apt-get install cmake   macOS: brew install cmake',
    );
  } else if (!atLeast(cmake, MINIMUM_CMAKE)) {
    problems.push(
      `cmake ${cmake} is too old: ${MINIMUM_CMAKE.join('.')} or newer is needed (pip install cmake has one).`,
    );
  }
  const compilers = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  if (!compilers.some((compiler) => output(compiler, ['--version']) !== undefined)) {
    problems.push(
      `No C++20 compiler was found (tried ${compilers.join(', ')}).  Debian/Ubuntu: apt-get install g++   macOS: xcode-select --install`,
    );
  }
  if (output('make', ['--version']) === undefined && output('ninja', ['--version']) === undefined) {
    problems.push(
      'Neither make nor ninja was found.  Debian/Ubuntu: apt-get install make   macOS: xcode-select --install',
    );
  }
  if (problems.length > 0) fail(['Before this can be built:', ...problems.map((p) => `  - ${p}`)]);
}

/** Puts the pinned pnpm on PATH: the one already there, or a private copy under .tools/. */
function ensurePnpm() {
  process.env.PATH = [join(toolsPrefix, 'bin'), process.env.PATH].join(delimiter);
  // From inside the tree a foreign pnpm would first download the pinned one by itself; ask elsewhere.
  const present = spawnSync('pnpm', ['--version'], { encoding: 'utf8', cwd: '/' });
  if (present.status === 0 && present.stdout.trim() === pnpmVersion) return;
  run('npm', ['install', '--global', '--silent', '--prefix', toolsPrefix, `pnpm@${pnpmVersion}`], {
    what: `installing pnpm ${pnpmVersion} into .tools/`,
  });
}

function setup() {
  checkSystem();
  ensurePnpm();
  // Without a terminal pnpm would ask before it replaces a node_modules made by another tool.
  run('pnpm', ['install', '--frozen-lockfile'], {
    what: 'installing dependencies',
    env: { npm_config_confirm_modules_purge: 'false' },
  });
  run(
    'pnpm',
    [
      'exec',
      'turbo',
      'run',
      'build:native',
      'build',
      '--concurrency',
      '2',
      '--output-logs',
      'errors-only',
    ],
    {
      what: 'building native code and TypeScript',
      env: { TURBO_TELEMETRY_DISABLED: '1' },
    },
  );
}

const commands = {
  setup() {
    setup();
    log('ready. Try: npm run demo, npm test, npm run accel -- --help');
  },
  test(args) {
    setup();
    run('pnpm', ['exec', 'vitest', 'run', ...args], { what: 'testing' });
  },
  demo(args) {
    setup();
    const folder = join(root, 'packages', 'cli');
    const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const cli = join(folder, bin.accel);
    run(process.execPath, [cli, 'eval', '--demo', ...args], { what: 'demo' });
  },
};

const [name = 'setup', ...rest] = process.argv.slice(2);
const command = commands[name];
if (command === undefined) {
  fail([`Unknown command "${name}". Use one of: ${Object.keys(commands).join(', ')}.`]);
}
command(rest);
