import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { addonPath, fixture, scriptFolder } from './support/paths.js';

const folder = mkdtempSync(join(tmpdir(), 'accel-process-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Ended {
  code: number | null;
  signal: string | null;
  out: string;
}

/** Runs a module in a process of its own; it finds everything of the package under `accel`. */
async function run(body: string, environment: Record<string, string> = {}): Promise<Ended> {
  const script = join(folder, `${Math.random().toString(36).slice(2)}.mjs`);
  const index = pathToFileURL(join(scriptFolder, 'index.js')).href;
  writeFileSync(
    script,
    `import * as accel from '${index}';
     const library = process.env.NO_ADDON ? undefined : accel.loadOpLibrary('${fixture('accel_test_ops')}');
     const script = import.meta.filename;
     ${body}`,
  );
  const child = spawn(process.execPath, ['--expose-gc', script], {
    env: { ...process.env, ACCEL_KERNELS_PATH: addonPath, ...environment },
    timeout: 30_000,
  });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (out += chunk.toString()));
  return await new Promise((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, out }));
  });
}

const open = `const device = accel.Device.open(); const stream = device.createStream();`;

describe('the end of a process', () => {
  test('comes by itself when streams are idle', async () => {
    const ended = await run(`${open} await stream.synchronize(); console.log('done');`);
    expect(ended).toEqual({ code: 0, signal: null, out: 'done\n' });
  });

  test('waits for a promise that is pending', async () => {
    const ended = await run(`${open} stream.run(library.op('busy'), 300);
      stream.synchronize().then(() => console.log('waited'));`);
    expect(ended).toEqual({ code: 0, signal: null, out: 'waited\n' });
  });

  test('does not wait for work that nobody waits for, and does not crash', async () => {
    const started = performance.now();
    const ended = await run(`${open} const x = accel.Tensor.empty(device, 'int32', [1000]);
      for (let i = 0; i < 100; i++) { stream.run(library.op('busy'), 200); stream.run(library.op('fill'), x, 1); }`);
    expect(ended).toEqual({ code: 0, signal: null, out: '' });
    expect(performance.now() - started).toBeLessThan(15_000);
  });

  test('process.exit while reads are pending', async () => {
    const ended =
      await run(`${open} const x = accel.Tensor.from(device, new Float32Array(1e6), [1e6]);
      for (let i = 0; i < 200; i++) { stream.run(library.op('busy'), 5); void x.read(stream); }
      setTimeout(() => process.exit(7), 50);`);
    expect(ended).toEqual({ code: 7, signal: null, out: '' });
  });

  test('an unhandled rejection of a stream ends it with the error', async () => {
    const ended = await run(`${open} stream.run(library.op('fail'), 3); stream.synchronize();`);
    expect(ended.code).toBe(1);
    expect(ended.out).toMatch(/AccelError: fail: deliberate failure 3/);
    expect(ended.out).toMatch(/ERR_ACCEL_NAN/);
  });
});

describe('worker threads', () => {
  test('each has its own streams; they may come and go, also with work left', async () => {
    const ended = await run(`
      import { Worker, isMainThread } from 'node:worker_threads';
      ${open}
      const x = accel.Tensor.from(device, Float32Array.of(1, 2), [2]);
      if (isMainThread) {
        for (let round = 0; round < 4; round++) {
          const workers = [0, 1, 2].map(() => new Worker(script));
          const codes = await Promise.all(workers.map((worker) => new Promise((done) => worker.on('exit', done))));
          if (codes.some((code) => code !== 0)) console.log('exit codes', codes);
        }
        const stopped = new Worker(script);
        await new Promise((done) => setTimeout(done, 150));
        await stopped.terminate();
        console.log((await x.read(stream)).join());
      } else {
        accel.ops.add(stream, x, x, x);
        const got = await x.read(stream);
        if (got[1] !== 4) throw new Error('wrong ' + got);
        for (let i = 0; i < 50; i++) stream.run(library.op('busy'), 20);
      }`);
    expect(ended).toEqual({ code: 0, signal: null, out: '1,2\n' });
  });

  test('the addon may be loaded in a worker only', async () => {
    const ended = await run(
      `
      import { Worker, isMainThread } from 'node:worker_threads';
      if (isMainThread) {
        const worker = new Worker(script);
        worker.on('exit', (code) => { console.log('worker', code); setTimeout(() => console.log('alive'), 200); });
      } else {
        const stream = accel.Device.open().createStream();
        const ops = accel.loadOpLibrary('${fixture('accel_test_ops')}');
        await stream.synchronize();
        for (let i = 0; i < 20; i++) stream.run(ops.op('busy'), 20);
      }`,
      { NO_ADDON: '1' },
    );
    expect(ended).toEqual({ code: 0, signal: null, out: 'worker 0\nalive\n' });
  });
});

test('what is forgotten is freed when the garbage collector finds it', async () => {
  const ended = await run(`${open}
    const pool = new accel.PagePool(stream, { pageBytes: 4096, capacityBytes: 1 << 24 });
    (() => { for (let i = 0; i < 10; i++) {
      const kv = new accel.KvSequence(pool, { layers: 1, heads: 1, headDim: 64, dtype: 'float32' }); kv.reserve(0, 64);
    } })();
    const before = pool.usedBytes;
    for (let i = 0; i < 20 && pool.usedBytes > 0; i++) { await new Promise((done) => setTimeout(done, 10)); gc(); }
    console.log(before > 0, pool.usedBytes);`);
  expect(ended).toEqual({ code: 0, signal: null, out: 'true 0\n' });
});

describe('settings', () => {
  test('ACCEL_THREADS sets the number of threads', async () => {
    const ended = await run(`console.log(accel.devices()[0].threads);`, { ACCEL_THREADS: '3' });
    expect(ended.out).toBe('3\n');
  });

  test.each([
    ['ACCEL_THREADS', 'many', /ACCEL_THREADS is \\"many\\".*from 1 to/],
    ['ACCEL_THREADS', '0', /ACCEL_THREADS is \\"0\\"/],
    ['ACCEL_CPU_ISA', 'mmx', /ACCEL_CPU_ISA/],
  ])('a bad %s (%s) is an error of Device.open', async (name, value, message) => {
    const body = `try { accel.Device.open(); } catch (error) { console.log(error.code, JSON.stringify(error.message)); }`;
    const ended = await run(body, { [name]: value });
    expect(ended.out).toMatch(/^ERR_ACCEL_ARGUMENT/);
    expect(ended.out).toMatch(message);
  });

  test('ACCEL_CPU_ISA=base forces the portable kernels', async () => {
    const ended = await run(`console.log(accel.Device.open().info.isa);`, {
      ACCEL_CPU_ISA: 'base',
    });
    expect(ended.out).toBe('base\n');
  });

  test('a missing addon says what was tried and how to build it', async () => {
    const body = `try { accel.devices(); } catch (error) { console.log(error.name, error.code, error.message); }`;
    const ended = await run(body, { ACCEL_KERNELS_PATH: '/nowhere/addon.node', NO_ADDON: '1' });
    expect(ended.out).toMatch(/AccelError ERR_ACCEL_NATIVE_MISSING/);
    expect(ended.out).toMatch(/1\. \/nowhere\/addon.node: no such file/);
    expect(ended.out).toMatch(/pnpm build:native/);
  });

  test('a broken addon says why', async () => {
    const broken = join(folder, 'broken.node');
    writeFileSync(broken, 'this is no library');
    const body = `try { accel.devices(); } catch (error) { console.log(error.code, error.message); }`;
    const ended = await run(body, { ACCEL_KERNELS_PATH: broken, NO_ADDON: '1' });
    expect(ended.out).toMatch(/ERR_ACCEL_NATIVE_MISSING/);
    expect(ended.out).toMatch(/broken.node: .*(invalid ELF|file too short|not valid)/);
  });
});
