/**
 * Finds stop strings in streamed text. Text that may be the beginning of a stop string is held back until it is
 * known not to be one, so nothing of a stop string is ever shown.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop.length > 0);
  }

  /** @returns text that is safe to show, and whether a stop string was completed */
  push(text: string): { text: string; stopped: boolean } {
    if (this.#stops.length === 0) return { text, stopped: false };
    const all = this.#held + text;
    const hits = this.#stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    if (hits.length > 0) {
      this.#held = '';
      return { text: all.slice(0, Math.min(...hits)), stopped: true };
    }
    const keep = Math.max(...this.#stops.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - keep);
    return { text: all.slice(0, all.length - keep), stopped: false };
  }

  /** What is still held back, at the end of a generation that was not stopped by a string. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }
}

/** Length of the longest proper prefix of `stop` that ends `text`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
