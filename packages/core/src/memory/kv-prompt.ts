import type { Allotment } from '../policy/allocate.js';
import type { RowFormat } from '../policy/codec.js';
import type { PromptPlan } from './kv-plan.js';
import { encoded, NO_ROWS, type HeadRows } from './pages.js';

/** A prompt of `width` equal sequences on its way through the layers. */
export class PromptRun {
  readonly #plan: PromptPlan;
  readonly #width: number;
  /** Of each layer that has been reached, in every head of every sequence. */
  readonly #heads: HeadRows[] = [];
  #pages = 0;
  #peak = 0;

  constructor(plan: PromptPlan, width: number) {
    this.#plan = plan;
    this.#width = width;
  }

  /** Reads the prompts. @returns pages of one sequence at the end, of all at the most, and the rows of a head of each layer */
  finish(): { pages: number; peak: number; heads: readonly HeadRows[] } {
    const { layers, shares, tokens, format } = this.#plan;
    const later = shares?.later === true;
    for (const [layer, { rows, dropAt }] of layers.entries()) {
      this.#heads.push(NO_ROWS);
      this.#become(layer, { ...NO_ROWS, rows: tokens }, 'grow');
      if (later) {
        // The layer before is decided on when this one is in the cache already.
        this.#share(shares.steps[layer - 1]);
        continue;
      }
      if (dropAt === undefined) this.#gather(layer, rows);
      else this.#become(layer, dropped(tokens, rows, dropAt), 'shrink');
      if (format !== undefined) this.#encode(layer, format);
    }
    if (later) {
      this.#share(shares.steps.at(-1));
      if (format !== undefined) for (const layer of layers.keys()) this.#encode(layer, format);
    }
    return { pages: this.#pages / this.#width, peak: this.#peak, heads: this.#heads };
  }

  #share(shares: readonly Allotment[] = []): void {
    for (const [layer, { rows }] of shares.entries()) this.#gather(layer, rows);
  }

  /** Rows that stay are copied into fresh pages before the others go, one sequence after the other. */
  #gather(layer: number, rows: number): void {
    const before = this.#heads[layer] ?? NO_ROWS;
    if (rows >= before.rows) return;
    const after = { ...NO_ROWS, rows };
    const { kvHeads, pages } = this.#plan;
    this.#see(kvHeads * pages.of(after));
    this.#become(layer, after, 'shrink');
  }

  /** Encoded rows are there in both forms until they are encoded. */
  #encode(layer: number, { rules }: RowFormat): void {
    const before = this.#heads[layer] ?? NO_ROWS;
    const both = encoded(before, rules.keys, rules.values);
    const { kvHeads, pages } = this.#plan;
    this.#see(kvHeads * (pages.of(both) - pages.of(before)));
    const { encodedKeys: plainKeys, encodedValues: plainValues } = both;
    this.#become(layer, { ...both, plainKeys, plainValues }, 'shrink');
  }

  /** All sequences hold other rows of a layer. */
  #become(layer: number, head: HeadRows, how: 'grow' | 'shrink'): void {
    const { kvHeads, pages } = this.#plan;
    const change = pages.of(head) - pages.of(this.#heads[layer] ?? NO_ROWS);
    this.#pages += this.#width * kvHeads * change;
    this.#heads[layer] = head;
    if (how === 'grow') this.#see(0);
  }

  /** So many pages are held besides for a moment. */
  #see(more: number): void {
    this.#peak = Math.max(this.#peak, this.#pages + more);
  }
}

function dropped(tokens: number, rows: number, at: number): HeadRows {
  const gap = tokens - rows;
  return { ...NO_ROWS, rows, gap, gapAt: gap === 0 ? 0 : at };
}
