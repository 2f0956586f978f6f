import { freezePart, type SelectPart, type Selector } from '@accel/core';

/**
 * A part that evicts nothing but asks to see the last `rows` queries. In the last layer the engine computes attention
 * only for positions that somebody reads; this is how all of them are.
 */
export function observer(rows: number): SelectPart {
  return freezePart({
    id: 'inspect',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: false,
    positions: 'original',
    observe: rows,
    options: {},
    create: () => new Observer(),
  } satisfies SelectPart);
}

class Observer implements Selector {
  prefillEnd(): void {
    // All rows stay.
  }

  fork(): Selector {
    return new Observer();
  }

  dispose(): void {
    // There is nothing to give back.
  }
}
