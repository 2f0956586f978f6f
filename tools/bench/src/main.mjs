// `pnpm bench`, whole-model part: the embedded model beside llama.cpp's CPU backend, same weights, same tokens, same
// threads. Each system runs in a process of its own, in turn (A B A B …), so that a machine that drifts drifts for
// both; what counts is the ratio of the medians.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needlePath } from '@accel/needle';
import { writeGguf } from './gguf.mjs';

const PEER = 'node-llama-cpp@3.22.1';
const PEER_BINARY = '@node-llama-cpp/linux-x64@3.22.1';
const here = fileURLToPath(new URL('.', import.meta.url));
const peerDir = fileURLToPath(new URL('../.peers', import.meta.url));
const rounds = Number(process.env.ACCEL_BENCH_ROUNDS ?? 3);
const threads = Number(process.env.ACCEL_THREADS ?? availableParallelism());
const prompts = [4096, 16000];

installPeer();
const work = mkdtempSync(join(tmpdir(), 'accel-bench-'));
try {
  const systems = [
    { name: '@accel float32', command: 'run-accel.mjs', args: [needlePath, 'float32'] },
    { name: '@accel bfloat16', command: 'run-accel.mjs', args: [needlePath, 'bfloat16'] },
    ...['F32', 'F16', 'BF16'].map((dtype) => {
      const file = join(work, `${dtype}.gguf`);
      writeGguf(needlePath, file, dtype);
      return { name: `llama.cpp ${dtype}`, command: 'run-llama.mjs', args: [file] };
    }),
  ];
  report(measure(systems));
} finally {
  rmSync(work, { recursive: true, force: true });
}

function installPeer() {
  if (existsSync(join(peerDir, 'node_modules', 'node-llama-cpp'))) return;
  console.error(`installing ${PEER} into ${peerDir} (bench only)`);
  mkdirSync(peerDir, { recursive: true });
  const args = [
    'install',
    '--prefix',
    peerDir,
    '--no-save',
    '--ignore-scripts',
    '--omit=optional',
    PEER,
    PEER_BINARY,
  ];
  execFileSync('npm', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

function measure(systems) {
  const samples = new Map(systems.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, command, args } of systems) {
      console.error(`round ${round + 1}/${rounds}: ${name}`);
      const child = spawnSync(
        process.execPath,
        [join(here, command), peerDir, String(threads), prompts.join(','), ...args],
        {
          encoding: 'utf8',
          env: { ...process.env, ACCEL_THREADS: String(threads) },
          maxBuffer: 1 << 24,
        },
      );
      if (child.status !== 0) throw new Error(`${name} failed:\n${child.stderr}`);
      samples.get(name).push(JSON.parse(child.stdout.trim().split('\n').at(-1)));
    }
  }
  return samples;
}

function report(samples) {
  const columns = [...prompts.map((n) => `prefill ${n}`), ...prompts.map((n) => `decode ${n}`)];
  const rows = new Map();
  for (const [name, runs] of samples) {
    rows.set(name, [
      ...prompts.map((n) => median(runs.map((run) => run.prefillSeconds[n]))),
      ...prompts.map((n) => 1 / median(runs.map((run) => run.decodeTokensPerSecond[n]))),
    ]);
  }
  const peers = [...rows].filter(([name]) => name.startsWith('llama.cpp'));
  const best = columns.map((_, i) => Math.min(...peers.map(([, values]) => values[i])));
  console.log(
    `${cpus()[0]?.model ?? 'cpu'}, ${threads} threads, medians of ${rounds} runs, ${new Date().toISOString().slice(0, 10)}`,
  );
  console.log(['system'.padEnd(18), ...columns.map((name) => name.padStart(20))].join(' '));
  for (const [name, values] of rows) {
    const cells = values.map((value, i) =>
      `${show(columns[i], value)} (${(value / best[i]).toFixed(2)}x)`.padStart(20),
    );
    console.log([name.padEnd(18), ...cells].join(' '));
  }
  console.log(
    '(…x) = time relative to the fastest llama.cpp format in the same column; below 1 is faster.',
  );
  console.log(JSON.stringify({ threads, rounds, samples: Object.fromEntries(samples) }));
}

function show(column, seconds) {
  return column.startsWith('prefill')
    ? `${seconds.toFixed(2)} s`
    : `${(1 / seconds).toFixed(0)} tok/s`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
