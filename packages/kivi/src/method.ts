import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { kivi } from './kivi.js';
import { LIBRARY } from './ops.js';
import { reader, settingsFrom } from './settings.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** KIVI for programs that list methods and read their configs. */
export const method: Method = {
  id: 'kivi',
  title: 'KIVI',
  paper: 'arXiv 2402.02750, ICML 2024',
  slots: ['codec'],
  options: reader.schema,
  // Checked by kivi itself.
  fromConfig: (options) => [kivi(options)],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
  supports: ({ headDim }) => {
    const { group } = settingsFrom({});
    if (headDim % group === 0) return undefined;
    return `its groups of ${group} do not divide the head dimension ${headDim}`;
  },
};
