// What every part of bench:gpu gets: its options, the clock, and where its lines go.

/** In the order in which they run. */
export const PARTS = [
  'ceilings',
  'kernels',
  'model',
  'methods',
  'codecs',
  'sparse',
  'memory',
  'peers',
];

export class Run {
  #started = performance.now();

  /**
   * @param options of the command line; `ceiling` when it is known
   * @param {(line: object) => void} emit takes one line of results
   */
  constructor(options, emit) {
    Object.assign(this, options);
    this.emit = emit;
    /** Best rates of plain operations on this machine, for shares. */
    this.ceiling = { ...options.ceiling };
  }

  /** Seconds before nothing new is started. */
  left() {
    return this.seconds - (performance.now() - this.#started) / 1000;
  }

  /** Does `body` if `seconds` are left. What goes wrong in it is a line, and what follows still runs. */
  async part(group, name, seconds, body) {
    if (this.left() < seconds) {
      this.emit({ group, name, skipped: `${Math.round(this.left())} s left, ${seconds} needed` });
      return;
    }
    try {
      await body();
    } catch (error) {
      process.exitCode = 1;
      this.emit({ group, name, error: error instanceof Error ? error.message : String(error) });
    }
  }
}
