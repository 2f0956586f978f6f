import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { cakekv } from './cakekv.js';
import { LIBRARY } from './ops.js';
import { reader } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** CakeKV for programs that list methods and read their configs. Beside another selector, only its budgets are used. */
export const method: Method = {
  id: 'cakekv',
  title: 'CakeKV',
  paper: 'arXiv 2503.12491, ICLR 2025',
  slots: ['budget', 'select'],
  optionalSlots: ['select'],
  options: reader.schema,
  fromConfig: (options) => cakekv(options),
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
};
