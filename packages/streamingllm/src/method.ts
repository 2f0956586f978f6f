import { fileURLToPath } from 'node:url';
import type { Method } from '@accel/core';
import { rotationProblem } from './attention.js';
import { fromLoom } from './loom.js';
import { LIBRARY } from './merge.js';
import { reader } from './settings.js';
import { streamingllm } from './streamingllm.js';

const config = (name: string): string =>
  fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));

/** StreamingLLM for programs that list methods and read their configs. */
export const method: Method = {
  id: 'streamingllm',
  title: 'StreamingLLM',
  paper: 'arXiv 2309.17453, ICLR 2024',
  slots: ['select'],
  options: reader.schema,
  fromConfig: (options) => [streamingllm(fromLoom(options))],
  presets: { paper: config('paper'), loom: config('loom') },
  library: LIBRARY,
  supports: rotationProblem,
};
