import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { builtinOps, Device, devices, loadOpLibrary, ops, Tensor } from '../ts/index.js';
import { expectError } from './support/errors.js';
import { fixture, packageFolder } from './support/paths.js';

const device = Device.open();
const stream = device.createStream();

describe('a library built by accel_add_op_library', () => {
  test('has a name, a version and ops', () => {
    const library = loadOpLibrary(fixture('accel_test_ops'));
    expect(library.name).toBe('accel_test_ops');
    expect(library.version).toBe('1.2.3');
    expect(library.op('fill')).toMatchObject({ name: 'fill', signature: 'out:tensor, n:int' });
    expect(library.op('throws').signature).toBe('');
  });

  test('says what devices its ops have functions for', () => {
    expect(loadOpLibrary(fixture('accel_test_ops')).op('fill').devices).toEqual(['cpu']);
    const gpu = devices().some(({ kind }) => kind === 'cuda');
    for (const op of builtinOps().ops) {
      expect(op.devices, op.name).toContain('cpu');
      if (gpu) expect(op.devices, op.name).toContain('cuda');
    }
  });

  test('runs beside the built-in ops on one stream', async () => {
    const fill = loadOpLibrary(fixture('accel_test_ops')).op('fill');
    using x = Tensor.empty(device, 'int32', [3]);
    using last = Tensor.empty(device, 'int32', [1]);
    stream.run(fill, x, 5);
    ops.gatherRows(stream, last, x, Int32Array.of(2));
    expect([...(await last.read(stream))]).toEqual([5]);
  });

  test('compiles sources for the instruction set that their suffix names', async () => {
    using out = Tensor.empty(device, 'int32', [2]);
    stream.run(loadOpLibrary(fixture('accel_test_ops')).op('flags'), out);
    expect([...(await out.read(stream))]).toEqual([0, process.arch === 'x64' ? 1 : 0]);
  });

  test('is the same library when it is loaded again', () => {
    const [a, b] = [
      loadOpLibrary(fixture('accel_test_ops')),
      loadOpLibrary(fixture('accel_test_ops')),
    ];
    expect(a.op('fill').id).toBe(b.op('fill').id);
  });

  test('lists its ops when one is missing', () => {
    const library = loadOpLibrary(fixture('accel_test_ops'));
    expectError(
      () => library.op('filll'),
      'ERR_ACCEL_OP_UNKNOWN',
      /accel_test_ops 1.2.3 has no op "filll".*fill, /,
    );
  });
});

describe('what cannot be loaded', () => {
  test('another ABI: both versions are named', () => {
    expectError(
      () => loadOpLibrary(fixture('accel_test_old_abi')),
      'ERR_ACCEL_OP_ABI',
      /accel_test_old_abi.so was built with op ABI 45, this runtime has op ABI 4/,
    );
  });

  test('a signature that makes no sense', () => {
    expectError(
      () => loadOpLibrary(fixture('accel_test_bad_signature')),
      'ERR_ACCEL_OP_LIBRARY',
      /broken.*x:matrix/,
    );
  });

  test('a library of something else', () => {
    expectError(
      () => loadOpLibrary(fixture('accel_test_no_table')),
      'ERR_ACCEL_OP_LIBRARY',
      /accel_op_library_get/,
    );
  });

  test('no library', () => {
    expectError(() => loadOpLibrary('/nowhere/x.so'), 'ERR_ACCEL_OP_LIBRARY', /\/nowhere\/x.so/);
    expectError(
      () => loadOpLibrary(join(packageFolder, 'package.json')),
      'ERR_ACCEL_OP_LIBRARY',
      /package.json/,
    );
  });
});

test('every built-in op has a typed function that passes its arguments in order', () => {
  const source = ['ops.ts', 'block-ops.ts', 'dequantize.ts', 'tally-ops.ts', 'transfer-ops.ts']
    .map((file) => readFileSync(join(packageFolder, 'ts', file), 'utf8'))
    .join('');
  for (const op of builtinOps().ops) {
    const call = new RegExp(`stream\\.run\\(\\s*op\\('${op.name}'\\),\\s*([^;]*)\\);`).exec(
      source,
    )?.[1];
    expect(call, `a function for ${op.name}`).toBeDefined();
    // Calls are no separate arguments; `...three(x)` stands for three.
    const given = call
      ?.replace(/,\s*$/, '')
      .replace(/\.\.\.three\(\w+\)/g, 'a, b, c')
      .replace(/\([^()]*\)/g, '')
      .split(',').length;
    expect(given, op.name).toBe(op.signature.split(',').length);
  }
});
