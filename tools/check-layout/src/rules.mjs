/**
 * The agreements, as data. Change them here (with an ADR when the shape of the repository changes).
 */

/** Folders of packages/ that are not methods, with their layer; a package depends on lower layers only. */
export const INFRASTRUCTURE = {
  needle: 0,
  core: 1,
  hub: 1,
  testkit: 2,
  eval: 3,
  cli: 4,
  server: 4,
};

/** Layer of kernels/, of a method package, of examples/*, of tools/*. */
export const KERNELS_LAYER = 0;
export const METHOD_LAYER = 2;
export const EXAMPLE_LAYER = 5;
export const TOOL_LAYER = 5;

/** Methods that build on another method because their paper does, or bring it along to work alone. */
export const METHOD_BUILDS_ON = {
  cam: ['snapkv', 'streamingllm'],
  pyramidkv: ['snapkv'],
  think: ['snapkv'],
};

/** Methods that only compute numbers in JavaScript: no kernels, and so no kernels folder that would be for show. */
export const METHODS_WITHOUT_KERNELS = ['pyramidkv'];

/** Files and scripts of METHOD_FILES and METHOD_SCRIPTS that those do not have. */
export const KERNEL_FILES = ['kernels/CMakeLists.txt'];
export const KERNEL_SCRIPTS = ['build:native'];

/** Workspace packages any other may use in tests (`devDependencies`) and never at run time. */
export const TEST_ONLY = ['@accel/testkit'];

/** What a method package consists of, beside PUBLIC_FILES. */
export const METHOD_FILES = [
  'src/index.ts',
  'kernels/CMakeLists.txt',
  'configs/paper.yaml',
  'configs/loom.yaml',
  'test/conformance.test.ts',
  'tsconfig.json',
  'tsconfig.build.json',
  'tsup.config.ts',
  'vitest.config.ts',
];

/** Scripts a method package has, so that one root command reaches all of them. */
export const METHOD_SCRIPTS = ['build', 'build:native', 'typecheck', 'test'];

/** Fields every published package has with these values. */
export const PUBLIC_FIELDS = {
  type: 'module',
  license: 'Apache-2.0',
};

/** What a published package must contain beside its code. */
export const PUBLIC_FILES = ['package.json', 'README.md'];
