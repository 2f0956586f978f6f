import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkRepository } from '../src/check.mjs';
import {
  KERNEL_FILES,
  KERNEL_SCRIPTS,
  METHOD_FILES,
  METHOD_SCRIPTS,
  METHODS_WITHOUT_KERNELS,
} from '../src/rules.mjs';

let root;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'accel-layout-'));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function write(file, text) {
  const path = join(root, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function publicManifest(name, extra = {}) {
  const exports = { '.': './dist/index.js', './package.json': './package.json' };
  return {
    name,
    type: 'module',
    license: 'Apache-2.0',
    exports,
    publishConfig: { exports },
    ...extra,
  };
}

function addPackage(folder, manifest) {
  write(`${folder}/package.json`, JSON.stringify(manifest));
  write(`${folder}/README.md`, '#');
}

function addMethod(name, extra = {}) {
  const folder = `packages/${name}`;
  const without = METHODS_WITHOUT_KERNELS.includes(name);
  const files = METHOD_FILES.filter((file) => !without || !KERNEL_FILES.includes(file));
  const scripts = METHOD_SCRIPTS.filter((script) => !without || !KERNEL_SCRIPTS.includes(script));
  for (const file of files) write(`${folder}/${file}`, '');
  addPackage(
    folder,
    publicManifest(`@accel/${name}`, {
      scripts: Object.fromEntries(scripts.map((script) => [script, 'x'])),
      dependencies: { '@accel/core': 'workspace:^', '@accel/kernels': 'workspace:^' },
      ...extra,
    }),
  );
}

function addFoundation() {
  addPackage('kernels', publicManifest('@accel/kernels'));
  addPackage(
    'packages/core',
    publicManifest('@accel/core', { dependencies: { '@accel/kernels': 'workspace:^' } }),
  );
}

describe('check-layout', () => {
  it('accepts a well-formed repository', () => {
    addFoundation();
    addMethod('snapkv');
    write('packages/snapkv/src/index.ts', "import { compose } from '@accel/core';\n");
    expect(checkRepository(root)).toEqual({ problems: [], packages: 3, methods: 1 });
  });

  it.each([...METHOD_FILES, 'README.md'])('misses %s in a method package', (file) => {
    addFoundation();
    addMethod('snapkv');
    rmSync(join(root, 'packages/snapkv', file));
    expect(checkRepository(root).problems).toContain(`packages/snapkv: ${file} is missing`);
  });

  it('wants no kernels of a method without tensor work, and none for show', () => {
    addFoundation();
    addMethod('pyramidkv');
    expect(checkRepository(root).problems).toEqual([]);
    write('packages/pyramidkv/kernels/CMakeLists.txt', '');
    expect(checkRepository(root).problems).toEqual([
      expect.stringMatching(/^packages\/pyramidkv: kernels\/ exists, but METHODS_WITHOUT_KERNELS/),
    ]);
  });

  it('says when the folder and the package name differ', () => {
    addFoundation();
    addMethod('snapkv', { name: '@accel/snap' });
    expect(checkRepository(root).problems.join('\n')).toMatch(/the name is "@accel\/snap"/);
  });

  it('forbids core to depend on a method, and an undeclared import of one', () => {
    addFoundation();
    addMethod('snapkv');
    addPackage(
      'packages/core',
      publicManifest('@accel/core', { dependencies: { '@accel/snapkv': 'workspace:^' } }),
    );
    write('packages/core/src/engine/run.ts', "const k = await import('@accel/kernels');\n");
    const { problems } = checkRepository(root);
    expect(problems).toContainEqual(
      expect.stringMatching(/^packages\/core: must not depend on @accel\/snapkv/),
    );
    expect(problems).toContain(
      'packages/core/src/engine/run.ts: imports @accel/kernels, which package.json does not depend on',
    );
    expect(problems).toContainEqual(expect.stringMatching(/^dependency cycle: /));
  });

  it('lets a method build on another only where its paper does', () => {
    addFoundation();
    addMethod('snapkv');
    const dependencies = { '@accel/core': 'workspace:^', '@accel/snapkv': 'workspace:^' };
    addMethod('pyramidkv', { dependencies });
    expect(checkRepository(root).problems).toEqual([]);
    addMethod('h2o', { dependencies });
    expect(checkRepository(root).problems).toEqual([
      expect.stringMatching(/^packages\/h2o: must not depend on @accel\/snapkv: a method uses/),
    ]);
  });

  it('keeps the test kit out of what users install', () => {
    addFoundation();
    addPackage('packages/testkit', { name: '@accel/testkit', private: true });
    addMethod('snapkv', { devDependencies: { '@accel/testkit': 'workspace:*' } });
    expect(checkRepository(root).problems).toEqual([]);
    addMethod('h2o', { dependencies: { '@accel/testkit': 'workspace:*' } });
    expect(checkRepository(root).problems).toEqual([
      expect.stringMatching(
        /^packages\/h2o: must not depend on @accel\/testkit: .*devDependencies/,
      ),
    ]);
  });
});
