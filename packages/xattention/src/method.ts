import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { LIBRARY } from './ops.js';
import { reader } from './settings.js';
import { xattention } from './xattention.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** XAttention for programs that list methods and read their configs. */
export const method: Method = {
  id: 'xattention',
  title: 'XAttention',
  paper: 'arXiv 2503.16428, ICML 2025',
  slots: ['prefill'],
  options: reader.schema,
  // Checked by xattention itself.
  fromConfig: (options) => [xattention(options)],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
