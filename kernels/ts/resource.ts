import { native } from './native.js';

const collected = new FinalizationRegistry<number>((id) => native().dispose(id));

/** Objects made since the last microtask. */
let fresh: Resource[] = [];

/**
 * Most tensors live for a part of one synchronous step. Only those that outlive it are worth watching: registering an
 * object costs more than everything else about a small tensor.
 */
function watchLater(resource: Resource): void {
  if (fresh.length === 0) queueMicrotask(watchSurvivors);
  fresh.push(resource);
}

function watchSurvivors(): void {
  const made = fresh;
  fresh = [];
  for (const resource of made) resource.watch();
}

/**
 * Base of everything that holds memory of the addon. Release it with {@link dispose} or `using`; what is forgotten is
 * released when the garbage collector finds it.
 */
export abstract class Resource implements Disposable {
  /** @internal The addon's number of this object; 0 once disposed. */ id: number;
  #watched = false;

  /** @internal */
  protected constructor(id: number) {
    this.id = id;
    watchLater(this);
  }

  /** True once {@link dispose} was called; using the object then throws `ERR_ACCEL_DISPOSED`. */
  get disposed(): boolean {
    return this.id === 0;
  }

  /** Releases the memory as soon as work that was enqueued before no longer needs it. May be called again. */
  dispose(): void {
    if (this.id === 0) return;
    native().dispose(this.id);
    this.id = 0;
    if (this.#watched) collected.unregister(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal */
  watch(): void {
    if (this.id === 0 || this.#watched) return;
    this.#watched = true;
    collected.register(this, this.id, this);
  }
}
