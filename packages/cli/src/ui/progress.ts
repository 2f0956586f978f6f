import type { Output } from '../io.js';
import { formatClock } from '../format.js';
import type { Colors } from './colors.js';

/** Settings of a {@link Progress}. */
export interface ProgressOptions {
  /** What is counted, in front of the bar. */
  readonly label: string;
  /** Work in all, in any unit; time to go is estimated from it. */
  readonly total: number;
  readonly colors: Colors;
  /** How an amount of work prints; default a plain number. */
  readonly format?: (done: number, total: number) => string;
  /** Milliseconds since some start; default the monotonic clock. Tests pass their own. */
  readonly now?: () => number;
  /** Least time between two lines when the output is no terminal, in ms; default 5000. */
  readonly quietMs?: number;
  /** Draw nothing during the first ms, so that short work stays silent; default 0. */
  readonly delayMs?: number;
}

const REDRAW_MS = 80;
const BAR_CELLS = 24;

/**
 * A progress bar with rate and time to go on one line of a terminal; in a log, a plain line now and then.
 *
 * Time to go is `elapsed · remaining / done` over the work done in this run, so work replayed from an
 * earlier run (`start`) does not make it too hopeful.
 */
export class Progress {
  readonly #output: Output;
  readonly #options: ProgressOptions;
  readonly #now: () => number;
  readonly #started: number;
  #done = 0;
  #replayed = 0;
  #note = '';
  #drawn = -Infinity;
  #lineOpen = false;
  #closed = false;

  constructor(output: Output, options: ProgressOptions) {
    this.#output = output;
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#started = this.#now();
    const delay = options.delayMs ?? 0;
    if (delay > 0) this.#drawn = this.#started + delay - this.#interval;
  }

  /** Counts work that was already done before this run began. */
  replayed(amount: number): void {
    this.#replayed += amount;
    this.#done += amount;
  }

  /**
   * Reports work.
   *
   * @param done work done in all, in the unit of `total`; may be a fraction of a step
   * @param note what is being worked on
   */
  update(done: number, note?: string): void {
    this.#done = Math.min(Math.max(done, this.#done), this.#options.total);
    if (note !== undefined) this.#note = note;
    if (this.#now() - this.#drawn >= this.#interval) this.#draw();
  }

  /** Redraws with the time as it is now, if it is time to. */
  tick(): void {
    this.update(this.#done);
  }

  /** Removes the bar; with a text, that line stays in its place. Later calls do nothing. */
  close(text?: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#clear();
    if (text !== undefined) this.#output.write(`${text}\n`);
  }

  /** Seconds since the bar was made. */
  get elapsedSeconds(): number {
    return (this.#now() - this.#started) / 1000;
  }

  /** Estimate of the seconds to go; NaN before anything was done. */
  get remainingSeconds(): number {
    const fresh = this.#done - this.#replayed;
    if (fresh <= 0) return Number.NaN;
    return (this.elapsedSeconds * (this.#options.total - this.#done)) / fresh;
  }

  get #interval(): number {
    return this.#output.isTTY === true ? REDRAW_MS : (this.#options.quietMs ?? 5000);
  }

  #clear(): void {
    if (!this.#lineOpen) return;
    this.#output.write('\r\u001b[2K');
    this.#lineOpen = false;
  }

  #draw(): void {
    if (this.#closed) return;
    this.#drawn = this.#now();
    const { label, total, format, colors } = this.#options;
    const share = total > 0 ? this.#done / total : 1;
    const amount = format?.(this.#done, total) ?? `${this.#done}/${total}`;
    const remaining = this.remainingSeconds;
    const time = Number.isNaN(remaining)
      ? formatClock(this.elapsedSeconds)
      : `${formatClock(this.elapsedSeconds)}, ETA ${formatClock(remaining)}`;
    const percent = `${Math.floor(share * 100)} %`;
    if (this.#output.isTTY !== true) {
      this.#output.write(`${label} ${percent}  ${amount}  ${time}  ${this.#note}`.trimEnd() + '\n');
      return;
    }
    const filled = Math.round(share * BAR_CELLS);
    const [done, open] = ['█'.repeat(filled), '░'.repeat(BAR_CELLS - filled)];
    const width = (this.#output.columns ?? 80) - 1;
    const end = `${percent.padStart(5)}  ${amount}  ${time}`;
    const used = `${label} ${done}${open} ${end}`.length;
    this.#clear();
    // A line wider than the terminal would wrap and could not be redrawn: the note gives way first.
    if (used > width) {
      this.#output.write(`${label} ${percent}`.slice(0, width));
    } else {
      const note = this.#note.slice(0, Math.max(0, width - used - 2));
      const bar = `${colors.cyan(done)}${colors.dim(open)}`;
      this.#output.write(`${label} ${bar} ${end}${note === '' ? '' : `  ${colors.dim(note)}`}`);
    }
    this.#lineOpen = true;
  }
}
