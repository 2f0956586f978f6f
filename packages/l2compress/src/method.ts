import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { l2compress } from './l2compress.js';
import { LIBRARY } from './norms.js';
import { reader } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** L2Compress for programs that list methods and read their configs. */
export const method: Method = {
  id: 'l2compress',
  title: 'L2Compress',
  paper: 'arXiv 2406.11430, EMNLP 2024',
  slots: ['select'],
  options: reader.schema,
  fromConfig: (options) => [l2compress(options)],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
