import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { LIBRARY } from './blocks.js';
import { flexprefill } from './flexprefill.js';
import { reader } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** FlexPrefill for programs that list methods and read their configs. */
export const method: Method = {
  id: 'flexprefill',
  title: 'FlexPrefill',
  paper: 'arXiv 2502.20766, ICLR 2025',
  slots: ['prefill'],
  options: reader.schema,
  fromConfig: (options) => [flexprefill(options)],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
