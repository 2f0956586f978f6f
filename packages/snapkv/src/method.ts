import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { LIBRARY } from './pool.js';
import { reader } from './settings.js';
import { snapkv } from './snapkv.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** SnapKV for programs that list methods and read their configs. */
export const method: Method = {
  id: 'snapkv',
  title: 'SnapKV',
  paper: 'arXiv 2404.14469, NeurIPS 2024',
  slots: ['select'],
  options: reader.schema,
  fromConfig: (options) => [snapkv(options)],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
