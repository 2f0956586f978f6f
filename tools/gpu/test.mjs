#!/usr/bin/env node
/**
 * `pnpm test:gpu`: the CUDA variants of all tests (ACCEL_TEST_DEVICE=cuda), then the native CUDA tests that are built.
 * Without a usable GPU it says why and ends with 0: that is no failure, and no success either.
 *
 *   node tools/gpu/test.mjs [vitest arguments]
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
/** Packages whose tests run something on a device. */
const PROJECTS = [
  'kernels',
  'core',
  'snapkv',
  'streamingllm',
  'h2o',
  'l2compress',
  'pyramidkv',
  'cakekv',
  'cam',
  'kivi',
  'think',
  'flexprefill',
  'xattention',
  'eval',
  'cli',
  'testkit',
];

/** Tests without a CUDA variant, whose vocabularies and libraries are not in the bundle. */
const HOST_ONLY = [
  'test/tokenizer/**',
  'test/gguf/tokenizer*',
  'test/chat/{stop-ids,continuation}*',
  'src/{config,data,longbench,metrics,niah,nll,prompt,random,report,ruler,runner,text}/**',
  'src/execute/{endpoint,pool,queue}*',
  'src/score.test.ts',
  'test/{eval,pull,report,worker}.test.ts',
];

/** What native tests end with when they cannot run here. */
const SKIPPED = 77;

const reason = await whyNot();
if (reason !== undefined) {
  console.log(`test:gpu: skipped, nothing was tested on a GPU. ${reason}`);
  process.exit(0);
}

const failed = [];
run('vitest', process.execPath, [
  join(root, 'node_modules/vitest/vitest.mjs'),
  'run',
  ...PROJECTS.flatMap((name) => ['--project', `@accel/${name}`]),
  ...HOST_ONLY.flatMap((pattern) => ['--exclude', pattern]),
  ...process.argv.slice(2),
]);
for (const [path, args] of nativeTests()) run(path, path, args);
console.log(
  failed.length === 0 ? 'test:gpu: all passed' : `test:gpu: failed: ${failed.join(', ')}`,
);
process.exit(failed.length === 0 ? 0 : 1);

function run(name, command, args) {
  console.log(`::: ${name}`);
  const env = { ...process.env, ACCEL_TEST_DEVICE: 'cuda' };
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env });
  if (status === SKIPPED) console.log(`::: ${name} skipped itself`);
  else if (status !== 0)
    failed.push(`${name} (${error?.message ?? signal ?? `exit code ${status}`})`);
}

/** Executables of kernels/test/native that use a GPU, wherever `test:native` or build-cuda.sh put them, with arguments. */
function nativeTests() {
  const folder = join(root, 'kernels/build-native');
  if (!existsSync(folder)) return [];
  const args = {
    cuda_runtime_test: [join(root, 'kernels/build/Release')],
    ops_test: ['--device', 'cuda'],
  };
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /^(ops|cuda_.*)_test$/.test(entry.name))
    .map((entry) => [join(entry.parentPath ?? entry.path, entry.name), args[entry.name] ?? []]);
}

async function whyNot() {
  const entry = join(root, 'kernels/dist/index.js');
  if (!existsSync(entry))
    return 'The packages are not built; run pnpm build and pnpm build:native.';
  const { Device } = await import(entry);
  try {
    Device.open('cuda');
    return undefined;
  } catch (error) {
    return error.message;
  }
}
