import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, type Policy } from '@accel/core';
import { expect } from 'vitest';
import { writeTinyCheckpoint } from './checkpoint.js';
import { draw } from './conformance/helpers.js';
import { byteTokens } from './generator.js';

/**
 * A sequence saved on the CPU is restored on `device`, and the other way round: saved again it has the same bytes, and it goes
 * on. In bfloat16, on a random model with heads of 64 channels.
 */
export async function expectMoves(device: string, policy: Policy): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'accel-moves-'));
  try {
    using checkpoint = writeTinyCheckpoint({ headDim: 64 });
    const options = { dtype: 'bfloat16', kvBytes: 64 << 20 } as const;
    using cpu = await loadModel(checkpoint.path, { ...options, device: 'cpu' });
    using other = await loadModel(checkpoint.path, { ...options, device });
    const [there, here] = [join(folder, 'there'), join(folder, 'here')];
    for (const [from, to] of [
      [cpu, other],
      [other, cpu],
    ] as const) {
      using sequence = from.sequence({ policy });
      await sequence.append(byteTokens(203, 1));
      await sequence.save(there);
      using restored = await to.restore(there, { policy });
      await restored.save(here);
      expect(readFileSync(here).equals(readFileSync(there))).toBe(true);
      expect(await draw(restored, 3)).toHaveLength(3);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
