import { ops, Tensor } from '@accel/kernels';
import {
  freezePart,
  type Allocator,
  type BudgetPart,
  type LayerEnd,
  type PartSetup,
  type Ranking,
  type Selector,
  type Sequence,
  type SelectPart,
  type TallyRequest,
} from '../../src/index.js';

/** A selector that only asks for tallies and evicts nothing. */
export function counting(tallies: readonly TallyRequest[]): SelectPart<'counting', never> {
  const create = (): Selector => ({
    idleRows: 1 << 30,
    prefillEnd: () => undefined,
    decodeEnd: () => undefined,
    save: () => null,
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'counting',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: false,
    positions: 'original',
    options: {},
    tallies,
    create,
  });
}

/** Tally number `which` of the rows of every head of a layer, `[heads][rows]`. */
export async function talliesOf(
  sequence: Sequence,
  layer: number,
  which: number,
): Promise<Float32Array[]> {
  const { model, state } = sequence;
  const rows = state.kv.rows(layer, 0);
  const heads = model.spec.kvHeads;
  using out = Tensor.empty(model.device, 'float32', [heads, rows]);
  ops.tallyRead(model.stream, out, state.kv.kv(layer), which);
  const all = (await out.read(model.stream)) as Float32Array;
  return Array.from({ length: heads }, (_, head) => all.subarray(head * rows, (head + 1) * rows));
}

/** Ranks rows by age: the oldest are the best, the newest `window` always stay. */
export function oldest(capacity: number, window: number): SelectPart<'oldest', never> {
  class Oldest implements Selector {
    readonly setup: PartSetup;
    readonly idleRows = capacity;
    constructor(setup: PartSetup) {
      this.setup = setup;
    }
    readonly ranking: Ranking = {
      capacity: () => ({ rows: capacity, window }),
      score: ({ rows }: LayerEnd) => {
        const { device, spec } = this.setup;
        const scores = Float32Array.from({ length: spec.kvHeads * rows }, (_, i) =>
          i % rows >= rows - window ? Infinity : -(i % rows),
        );
        return Tensor.from(device, scores, [spec.kvHeads, rows]);
      },
    };
    prefillEnd(): void {
      throw new Error('the budget part cuts');
    }
    save(): null {
      return null;
    }
    fork(): Selector {
      return new Oldest(this.setup);
    }
    dispose(): void {
      // nothing
    }
  }
  return freezePart({
    id: 'oldest',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    options: {},
    create: (setup) => new Oldest(setup),
  });
}

/** Decides late: after layer l, layers 0…l share `total` rows evenly, and the device's own number is awaited first. */
export function cascade(total: number): BudgetPart<'cascade', never> {
  class Cascade implements Allocator {
    readonly setup: PartSetup;
    readonly reads: Promise<unknown>[] = [];
    constructor(setup: PartSetup) {
      this.setup = setup;
    }
    prefillEnd({ stream, turn }: LayerEnd): undefined | { rows: number } {
      if (turn > 0) return { rows: total };
      using one = Tensor.from(this.setup.device, Float32Array.of(1), [1]);
      this.reads.push(one.read(stream));
      return undefined;
    }
    async settle(layer: number): Promise<ReadonlyMap<number, { rows: number }>> {
      await this.reads[layer];
      const rows = Math.floor(total / (layer + 1));
      return new Map(Array.from({ length: layer + 1 }, (_, i) => [i, { rows }]));
    }
    save(): null {
      return null;
    }
    fork(): Allocator {
      return new Cascade(this.setup);
    }
    dispose(): void {
      // nothing
    }
  }
  return freezePart({
    id: 'cascade',
    slot: 'budget',
    needs: [],
    provides: [],
    lossy: true,
    options: {},
    create: (setup) => new Cascade(setup),
  });
}
