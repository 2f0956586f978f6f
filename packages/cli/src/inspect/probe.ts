import { freezePart, type BlockCall, type BlockChooser, type PrefillPart } from '@accel/core';
import type { Tensor } from '@accel/kernels';
import { keep, measureBlockMass } from './block-mass.js';

/** What was seen of one call: consecutive queries of a prompt in one layer. Tensors stay until they are disposed. */
export interface Sighting {
  readonly layer: number;
  /** Position of the first query, a multiple of 128. */
  readonly first: number;
  /** Queries. */
  readonly m: number;
  /** Why they attended densely; undefined when blocks were chosen. */
  readonly dense: string | undefined;
  /** float32 `[heads, row blocks, columns]`: where the attention lies. */
  readonly mass: Tensor;
  /** int32 `[row blocks, heads, words]` as in {@link BlockCall.mask}; undefined for dense attention. */
  readonly mask: Tensor | undefined;
  /** float32 `[heads, figures]`; undefined for dense attention. */
  readonly figures: Tensor | undefined;
}

/**
 * Looks over the shoulder of a prefill part: a part that chooses as `inner` does and keeps what it chose beside the true
 * attention mass of every block.
 *
 * @param inner the method's own part; without one, attention is dense
 * @param sightings where they are kept, call by call
 */
export function probe(inner: PrefillPart | undefined, sightings: Sighting[]): PrefillPart {
  return freezePart({
    id: inner?.id ?? 'full',
    slot: 'prefill',
    needs: [],
    provides: inner?.provides ?? ['observedWindow', 'columnSums', 'headStats'],
    lossy: inner?.lossy ?? false,
    figures: inner?.figures ?? ['recall'],
    options: inner?.options ?? {},
    create: (setup) => new ProbeChooser(inner?.create(setup), sightings),
  } satisfies PrefillPart);
}

class ProbeChooser implements BlockChooser {
  readonly #inner: BlockChooser | undefined;
  readonly #sightings: Sighting[];

  constructor(inner: BlockChooser | undefined, sightings: Sighting[]) {
    this.#inner = inner;
    this.#sightings = sightings;
  }

  get idleRows(): number {
    return this.#inner?.idleRows ?? Infinity;
  }

  choose(call: BlockCall): string | undefined {
    const { layer, m, rows } = call;
    const mass = measureBlockMass(call);
    const dense = this.#inner === undefined ? 'no method was chosen' : this.#inner.choose(call);
    const chosen = dense === undefined;
    this.#sightings.push({
      layer,
      first: rows - m,
      m,
      dense,
      mass,
      mask: chosen ? keep(call, call.mask) : undefined,
      figures: chosen ? keep(call, call.figures) : undefined,
    });
    return dense;
  }

  fork(): BlockChooser {
    return new ProbeChooser(this.#inner?.fork(), this.#sightings);
  }

  dispose(): void {
    this.#inner?.dispose();
  }
}

/** Gives back what the sightings hold. */
export function disposeSightings(sightings: readonly Sighting[]): void {
  for (const { mass, mask, figures } of sightings) {
    for (const tensor of [mass, mask, figures]) tensor?.dispose();
  }
}
