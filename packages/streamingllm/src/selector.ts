import { cutRows } from '@accel/core';
import type { AttendCall, LayerEnd, Selector, PartSetup } from '@accel/core';
import type { KvSequence } from '@accel/kernels';
import { SinkAttention } from './attention.js';
import { cut, type Window } from './rules.js';
import { windowOf, type StreamingllmSettings } from './settings.js';

/** StreamingLLM on one sequence at original positions after a dense prompt: it only cuts rows. */
export class WindowSelector implements Selector {
  protected readonly setup: PartSetup;
  protected readonly settings: StreamingllmSettings;
  /** A budget that is a share of the first prompt becomes a window only with it. */
  protected window: Window | undefined;

  constructor(setup: PartSetup, settings: StreamingllmSettings, window?: Window) {
    this.setup = setup;
    this.settings = settings;
    this.window = window ?? windowOf(settings);
  }

  /** Rows up to which nothing has to go. */
  get idleRows(): number {
    return this.window === undefined ? Infinity : this.window.sink + this.window.recent;
  }

  turnStart({ tokens, kv }: { readonly tokens: number; readonly kv: KvSequence }): void {
    this.window ??= windowOf(this.settings, tokens);
    if (this.settings.trim !== 'turn') return;
    const window = this.started();
    const coming = tokens + this.settings.reserve;
    for (let layer = 0; layer < this.setup.spec.layers; layer++) {
      const { at, count } = cut(window, kv.rows(layer, 0), coming);
      if (count > 0) kv.drop(layer, at, count);
    }
  }

  prefillEnd(end: LayerEnd): void {
    const { trim } = this.settings;
    if (trim === 'token' || (trim === 'prompt' && end.turn === 0)) this.#trim(end);
  }

  decodeEnd(end: LayerEnd): void {
    if (this.settings.trim === 'token') this.#trim(end);
  }

  #trim(end: LayerEnd): void {
    const { at, count } = cut(this.started(), end.rows);
    // A merge part takes values over from rows that leave one by one.
    if (end.phase === 'decode' && count === 1) end.merge?.(at);
    if (count > 0) {
      // Widens the one hole of the cache: no row moves, whatever the window. What is cut once has no hole, for a codec's sake.
      if (this.settings.trim === 'token') end.kv.drop(end.layer, at, count);
      else cutRows(end, at, count);
    }
    end.report({ rowsIn: end.rows, rowsKept: end.rows - count });
  }

  protected started(): Window {
    if (this.window === undefined) throw new Error('a turn starts before its first layer');
    return this.window;
  }

  save(): { sink: number; recent: number } | null {
    return this.window === undefined ? null : { ...this.window };
  }

  fork(): Selector {
    return new WindowSelector(this.setup, this.settings, this.window);
  }

  dispose(): void {
    // No memory of its own.
  }
}

/** The same with its own attention: positions inside the cache, a banded prompt, or both. */
export class StreamSelector extends WindowSelector {
  readonly #attention: SinkAttention;

  constructor(setup: PartSetup, settings: StreamingllmSettings, window?: Window) {
    super(setup, settings, window);
    const { positions, prefill } = settings;
    this.#attention = new SinkAttention(setup, { positions, banded: prefill === 'banded' });
  }

  /** Positions needed: inside the cache they grow no further than the rows do. */
  span({ phase, rows, tokens, seen }: Parameters<NonNullable<Selector['span']>>[0]): number {
    const { positions, prefill, trim } = this.settings;
    if (positions === 'original') return seen + tokens;
    const needed = rows + tokens;
    const bounded = phase === 'decode' ? trim === 'token' : prefill === 'banded';
    return bounded ? Math.min(needed, this.idleRows + 1) : needed;
  }

  attend(call: AttendCall): void {
    this.#attention.run(call, this.started());
  }

  override fork(): Selector {
    return new StreamSelector(this.setup, this.settings, this.window);
  }

  override dispose(): void {
    this.#attention.dispose();
  }
}
