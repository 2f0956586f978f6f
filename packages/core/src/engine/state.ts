import { KvSequence } from '@accel/kernels';
import type { Selector, SelectPart } from '../policy/select.js';
import type { Runtime } from './runtime.js';

/** What the parts did in one layer, summed over the steps so far. */
export interface LayerReport {
  rowsIn: number;
  rowsKept: number;
  /** Times the part removed at least one row. */
  acted: number;
  notes: Set<string>;
}

/**
 * The state of one sequence: its cache, its selector and its counters. It belongs to the sequence alone; neither the
 * model nor a policy object holds any of it, so a second prompt starts as fresh as the first.
 */
export class SequenceState implements Disposable {
  readonly runtime: Runtime;
  readonly part: SelectPart | undefined;
  readonly kv: KvSequence;
  readonly selector: Selector | undefined;
  /** Positions seen so far. */
  seen = 0;
  /** Calls of append so far. */
  turn = 0;
  readonly reports: LayerReport[];

  private constructor(
    runtime: Runtime,
    part: SelectPart | undefined,
    kv: KvSequence,
    selector: Selector | undefined,
  ) {
    this.runtime = runtime;
    this.part = part;
    this.kv = kv;
    this.selector = selector;
    this.reports = Array.from({ length: runtime.spec.layers }, () => emptyReport());
  }

  static create(runtime: Runtime, part: SelectPart | undefined): SequenceState {
    const { spec, stream, device, dtype } = runtime;
    const kv = new KvSequence(runtime.pool, {
      layers: spec.layers,
      heads: spec.kvHeads,
      headDim: spec.headDim,
      dtype,
    });
    const rope = (length: number) => runtime.rope.at(length);
    const selector = part?.create({ spec, stream, device, dtype, rope });
    return new SequenceState(runtime, part, kv, selector);
  }

  /** A copy that shares cache pages until one of the two writes to them. */
  fork(): SequenceState {
    const copy = new SequenceState(this.runtime, this.part, this.kv.fork(), this.selector?.fork());
    copy.seen = this.seen;
    copy.turn = this.turn;
    for (const [layer, report] of this.reports.entries()) {
      copy.reports[layer] = { ...report, notes: new Set(report.notes) };
    }
    return copy;
  }

  /** Records what a part did in a layer. */
  record(layer: number, done: { rowsIn: number; rowsKept: number; note?: string }): void {
    const report = this.reports[layer];
    if (report === undefined) return;
    report.rowsIn += done.rowsIn;
    report.rowsKept += done.rowsKept;
    if (done.rowsKept < done.rowsIn) report.acted += 1;
    if (done.note !== undefined) report.notes.add(done.note);
  }

  dispose(): void {
    this.selector?.dispose();
    this.kv.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function emptyReport(): LayerReport {
  return { rowsIn: 0, rowsKept: 0, acted: 0, notes: new Set() };
}
