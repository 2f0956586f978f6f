import type { LayerPlan, PromptPlan } from './kv-plan.js';
import { encoded, NO_ROWS, type HeadRows } from './pages.js';

/** Steps in which a gap has moved over whole pages of rows. */
const GAP_STEPS = 32;

/** One sequence that decodes after its prompt. */
export class DecodeSteps {
  readonly #plan: PromptPlan;
  readonly #heads: readonly HeadRows[];

  /** @param heads rows of each layer's heads when the prompt has been read */
  constructor(plan: PromptPlan, heads: readonly HeadRows[]) {
    this.#plan = plan;
    this.#heads = heads;
  }

  /** Pages after `tokens` steps. */
  pages(tokens: number): number {
    const { layers, kvHeads, pages } = this.#plan;
    return layers.reduce((sum, _, i) => sum + kvHeads * pages.of(this.#head(i, tokens)), 0);
  }

  /**
   * The most pages up to the end of step `tokens`. A cache that keeps its size still goes up and down, as the gap in it moves over
   * pages, and a block that is encoded is there twice for a moment: the first and the last steps show what that takes.
   */
  peak(tokens: number): number {
    const { keys, values } = this.#plan.format?.rules ?? {};
    const cycle = Math.max(GAP_STEPS, keys?.block ?? 0, values?.block ?? 0);
    const last = Math.min(tokens, cycle);
    const steps = [1, ...Array.from({ length: last }, (_, i) => tokens - i)];
    const peaks = steps
      .slice(0, tokens)
      .map((step) => Math.max(this.pages(step), this.pages(step - 1) + this.#meanwhile(step)));
    return Math.max(this.pages(0), ...peaks);
  }

  /** Pages that come to those before a step: rows to be encoded are in both forms in all layers, others leave layer by layer. */
  #meanwhile(step: number): number {
    const { layers, kvHeads, pages, format } = this.#plan;
    const more = layers.map(({ decode }, i) => {
      const head = this.#head(i, step - 1);
      const grown = { ...head, rows: head.rows + 1 };
      if (format?.encodes === 'everyStep') {
        return pages.of(encoded(grown, format.rules.keys, format.rules.values)) - pages.of(head);
      }
      const cut = decode !== undefined && head.rows > decode.rows;
      const copy = cut ? pages.of({ ...NO_ROWS, rows: decode.rows }) : 0;
      return pages.of(grown) - pages.of(head) + copy;
    });
    const sum = more.reduce((total, one) => total + one, 0);
    return kvHeads * (format?.encodes === 'everyStep' ? sum : Math.max(...more));
  }

  #head(layer: number, tokens: number): HeadRows {
    const head = this.#heads[layer] ?? NO_ROWS;
    if (tokens === 0) return head;
    const { format, layers } = this.#plan;
    const grown = stepped(head, layers[layer]?.decode, tokens);
    if (format?.encodes !== 'everyStep') return grown;
    const both = encoded(grown, format.rules.keys, format.rules.values);
    return { ...both, plainKeys: both.encodedKeys, plainValues: both.encodedValues };
  }
}

/** Rows after decode steps. One that leaves makes room behind the rows that stay for their score: the gap grows there. */
function stepped(head: HeadRows, most: LayerPlan['decode'], tokens: number): HeadRows {
  if (most === undefined || head.rows + tokens <= most.rows) {
    return { ...head, rows: head.rows + tokens };
  }
  // A prompt that was left alone although it is longer is cut by the first step.
  const cut = head.rows > most.rows;
  const start = cut ? { ...NO_ROWS, rows: most.rows } : head;
  const left = cut ? tokens - 1 : tokens - (most.rows - head.rows);
  if (left === 0) return start;
  return {
    ...start,
    rows: most.rows,
    gap: start.gap + left,
    gapAt: start.gap > 0 ? start.gapAt : most.rows - most.recent,
  };
}
