import { loadModel, type Method, type Model } from '@accel/core';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { writeTinyCheckpoint, type TinyCheckpoint } from '../checkpoint.js';
import { describeDevices } from '../devices.js';
import { budgetTests } from './budgets.js';
import { lifecycleTests } from './lifecycle.js';
import { optionTests } from './options.js';
import { referenceTests } from './references.js';
import { sharingTests } from './sharing.js';
import type { ConformanceOptions, Suite } from './types.js';
import { windowTests } from './window.js';

/**
 * What every method must do, whatever it computes: keep its budget in rows and in bytes, say so in the receipt, treat
 * the second prompt as the first, a batch as its rows alone and a later turn causally, leave the parent of a fork
 * alone, be deterministic, give all memory back, refuse bad options, and agree with its goldens. Registers the tests,
 * once for each device of the machine.
 *
 * The model is a random two-layer Llama made on the spot, so nothing but the repository is needed.
 */
export function conformance(method: Method, options: ConformanceOptions): void {
  const { form, parity, ...rest } = options;
  const name = `${method.title}${form === undefined ? '' : ` (${form})`}`;
  describeDevices(`${name} conformance`, (device) => {
    let checkpoint: TinyCheckpoint;
    let model: Model | undefined;
    beforeAll(async () => {
      checkpoint = writeTinyCheckpoint();
      model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    });
    afterAll(() => {
      model?.dispose();
      checkpoint.dispose();
    });
    const suite: Suite = {
      kept: ({ rows, capacity }) => Math.min(rows, capacity),
      badOptions: [],
      ...rest,
      method,
      device,
      model: () => {
        if (model === undefined) throw new Error('the model is loaded before the first test');
        return model;
      },
    };
    if (parity !== undefined) describe('parity', () => parity(device));
    describe('model', () => {
      afterEach(() => expect(model?.pool.usedBytes, 'pages still in use after the test').toBe(0));
      budgetTests(suite);
      lifecycleTests(suite);
      sharingTests(suite);
    });
    windowTests(suite);
    referenceTests(suite);
    optionTests(suite);
  });
}
