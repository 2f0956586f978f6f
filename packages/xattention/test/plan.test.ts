import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorWith } from '@accel/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  readThresholds,
  thresholdPlan,
  writeThresholds,
  type ThresholdPlan,
} from '../src/index.js';

const plan: ThresholdPlan = {
  schema: 'accel.xattention.thresholds/1',
  model: { name: 'tiny', layers: 2, heads: 3 },
  stride: 8,
  thresholds: [
    [0.8, 0.1 + 0.2, 1],
    [0, 0.955, 0.5],
  ],
  coverage: 0.9,
  provenance: 'two texts of 4096 tokens',
};
const spec = { name: 'tiny', layers: 2, heads: 3 };

describe('plans of thresholds', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'accel-thresholds-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('are read as they were written, to the last bit', async () => {
    const path = join(folder, 'plan.json');
    await writeThresholds(path, plan);
    const read = await readThresholds(path, spec);
    expect(read).toEqual(plan);
    expect(read.thresholds[0]?.[1]).toBe(0.1 + 0.2);
    expect(Object.isFrozen(read.thresholds[1])).toBe(true);
    // A layer a line.
    expect((await readFile(path, 'utf8')).split('\n')).toContain('    [0,0.955,0.5]');
  });

  it.each([
    { title: 'another schema', change: { schema: 'accel.budget-plan.1' }, text: 'schema' },
    { title: 'a layer too few', change: { thresholds: [[0, 0, 0]] }, text: '2 layers' },
    { title: 'a head too few', change: { thresholds: [[0, 0, 0], [1]] }, text: 'layer 1' },
    {
      title: 'a share above one',
      change: {
        thresholds: [
          [0, 0, 2],
          [1, 1, 1],
        ],
      },
      text: '0: 2',
    },
    { title: 'no history', change: { provenance: undefined }, text: 'provenance' },
    { title: 'a stride there is not', change: { stride: 3 }, text: 'stride' },
    { title: 'unknown fields', change: { gamma: 1 }, text: 'gamma' },
  ])('with $title are refused', ({ change, text }) => {
    expect(() => thresholdPlan({ ...plan, ...change })).toThrow(
      errorWith('ERR_ACCEL_POLICY', text),
    );
  });

  it('are for a model of their shape', () => {
    expect(() => thresholdPlan(plan, { name: 'other', layers: 2, heads: 4 })).toThrow(
      errorWith('ERR_ACCEL_POLICY', 'other has 2 layers of 4'),
    );
  });

  it('must be there and be JSON', async () => {
    await expect(readThresholds(join(folder, 'none.json'))).rejects.toEqual(
      errorWith('ERR_ACCEL_FILE', 'none.json'),
    );
    const path = join(folder, 'broken.json');
    await writeFile(path, '{');
    await expect(readThresholds(path)).rejects.toEqual(errorWith('ERR_ACCEL_POLICY', 'not JSON'));
    await expect(writeThresholds(join(folder, 'no', 'where.json'), plan)).rejects.toEqual(
      errorWith('ERR_ACCEL_FILE'),
    );
  });
});
