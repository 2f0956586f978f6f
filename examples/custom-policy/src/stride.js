/**
 * An eviction method of one's own: of the prompt, the first row, every n-th after it, and the newest `recent` stay.
 * Not a good method; a short one. A published one that scores rows looks the same, with an op between `prefillEnd`
 * and `compact`.
 */
import { AccelError, freezePart } from '@accel/core';
import { Tensor } from '@accel/kernels';

/**
 * @param {{ every?: number, recent?: number }} [options] rows from one kept row to the next, default 8; newest rows
 *   that all stay, default 64
 * @returns {import('@accel/core').SelectPart<'stride', never>}
 */
export function stride({ every = 8, recent = 64 } = {}) {
  if (!Number.isInteger(every) || every < 1 || !Number.isInteger(recent) || recent < 1) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      'stride: every and recent must be whole numbers of at least 1.',
    );
  }
  return freezePart({
    id: 'stride',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    options: { every, recent },
    create: (setup) => new StrideSelector(setup, every, recent),
  });
}

/** The state of one sequence: here none, so a fork can share it. */
class StrideSelector {
  #setup;
  #every;
  #recent;

  constructor(setup, every, recent) {
    this.#setup = setup;
    this.#every = every;
    this.#recent = recent;
  }

  /** Called for every layer once the whole prompt went through it. Only enqueues work; nothing is waited for. */
  prefillEnd({ layer, kv, rows, report }) {
    const kept = [];
    for (let row = 0; row < rows; row++) {
      if (row % this.#every === 0 || row >= rows - this.#recent) kept.push(row);
    }
    const { device, spec } = this.#setup;
    const perHead = Array.from({ length: spec.kvHeads }, () => kept);
    const index = Tensor.from(device, Int32Array.from(perHead.flat()), [spec.kvHeads, kept.length]);
    kv.compact(
      layer,
      index,
      perHead.map((list) => list.length),
    );
    index.dispose();
    report({ rowsIn: rows, rowsKept: kept.length });
  }

  fork() {
    return this;
  }

  dispose() {}
}
