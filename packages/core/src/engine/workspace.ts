import { Tensor, type Device, type DType } from '@accel/kernels';

const MAX_VIEWS = 32;

interface Slot {
  storage: Tensor;
  views: Map<string, Tensor>;
}

/**
 * Named scratch tensors that are reused from call to call.
 *
 * Ops run in order on one stream, so a tensor may be handed out again as soon as the ops that read it are
 * enqueued. A slot only grows; the views of a slot are cached, so that a decode step allocates nothing. Ask for the
 * largest shape of a name first: growing a slot releases the views that were handed out.
 */
export class Workspace implements Disposable {
  readonly #device: Device;
  readonly #slots = new Map<string, Slot>();

  constructor(device: Device) {
    this.#device = device;
  }

  /** Memory behind all names together. */
  get bytes(): number {
    return [...this.#slots.values()].reduce((sum, { storage }) => sum + storage.byteLength, 0);
  }

  /** A tensor of `shape` with undefined contents, valid until the same name is asked for again. */
  get(name: string, dtype: DType, shape: readonly number[]): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const id = `${name}:${dtype}`;
    let slot = this.#slots.get(id);
    if (slot === undefined || slot.storage.size < size) {
      if (slot !== undefined) release(slot);
      slot = { storage: Tensor.empty(this.#device, dtype, [size]), views: new Map() };
      this.#slots.set(id, slot);
    }
    const key = shape.join('x');
    let view = slot.views.get(key);
    if (view === undefined) {
      using part = slot.storage.slice(0, size);
      view = part.view(shape);
      slot.views.set(key, view);
    }
    return view;
  }

  /** Lets go of views that nobody uses any more. Between passes only: a pass keeps the views it has looked up. */
  trim(): void {
    for (const slot of this.#slots.values()) {
      if (slot.views.size > MAX_VIEWS) releaseViews(slot);
    }
  }

  dispose(): void {
    for (const slot of this.#slots.values()) release(slot);
    this.#slots.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function releaseViews(slot: Slot): void {
  for (const view of slot.views.values()) view.dispose();
  slot.views.clear();
}

function release(slot: Slot): void {
  releaseViews(slot);
  slot.storage.dispose();
}
