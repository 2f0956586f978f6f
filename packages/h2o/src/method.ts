import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { h2o } from './h2o.js';
import { LIBRARY } from './victim.js';
import { reader, type H2oOptions } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** H2O for programs that list methods and read their configs. */
export const method: Method = {
  id: 'h2o',
  title: 'H2O',
  paper: 'arXiv 2306.14048, NeurIPS 2023',
  slots: ['select'],
  options: reader.schema,
  // Checked by h2o itself.
  fromConfig: (options) => [h2o(options as H2oOptions)],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
