/** What to dispose, newest first, if a construction fails half-way. (Node 20 has no DisposableStack.) */
export class Cleanup implements Disposable {
  #items: Disposable[] = [];

  /** Takes over a resource. */
  use<T extends Disposable>(resource: T): T {
    this.#items.push(resource);
    return resource;
  }

  /** Hands everything to the caller; this object then disposes nothing. */
  move(): () => void {
    const items = this.#items;
    this.#items = [];
    return () => {
      release(items);
    };
  }

  [Symbol.dispose](): void {
    release(this.#items);
    this.#items = [];
  }
}

function release(items: readonly Disposable[]): void {
  for (const item of [...items].reverse()) item[Symbol.dispose]();
}
