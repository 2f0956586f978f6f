import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { partsFrom } from './companions.js';
import { LIBRARY } from './kernels.js';
import { reader } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** CaM for programs that list methods and read their configs. Alone it brings a selection to work on. */
export const method: Method = {
  id: 'cam',
  title: 'CaM',
  paper: 'ICML 2024, PMLR 235:58840',
  slots: ['merge'],
  options: reader.schema,
  fromConfig: partsFrom,
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
