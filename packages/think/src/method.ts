import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { partsFrom } from './companions.js';
import { LIBRARY } from './ops.js';
import { reader } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** ThinK for programs that list methods and read their configs. Configs may bring SnapKV along, with which it was published. */
export const method: Method = {
  id: 'think',
  title: 'ThinK',
  paper: 'arXiv 2407.21018, ICLR 2025',
  slots: ['channels'],
  options: reader.schema,
  fromConfig: partsFrom,
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
  supports: ({ headDim }) =>
    headDim > MOST_CHANNELS
      ? `its kernels take head dimensions up to ${MOST_CHANNELS}, not ${headDim}`
      : undefined,
};
const MOST_CHANNELS = 256;
