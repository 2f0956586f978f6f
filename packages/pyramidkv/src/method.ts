import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { pyramidkv } from './pyramidkv.js';
import { configReader, splitConfig } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/**
 * PyramidKV for programs that list methods and read their configs. It brings SnapKV along, with which it was published;
 * a program that is given another select part leaves that one out.
 */
export const method: Method = {
  id: 'pyramidkv',
  title: 'PyramidKV',
  paper: 'arXiv 2406.02069',
  slots: ['budget'],
  options: configReader.schema,
  fromConfig: (options) => {
    const { budget, select } = splitConfig(options);
    return [snapkv(select), pyramidkv(budget)];
  },
  presets: { paper: config('paper'), loom: config('loom') },
};
