import { KvSequence } from '@accel/kernels';
import type { Allocator } from '../policy/allocate.js';
import type { Channels } from '../policy/channels.js';
import type { RowFormat } from '../policy/codec.js';
import type { Merger } from '../policy/merge.js';
import type { JsonValue, Part, Slot } from '../policy/part.js';
import type { BlockChooser } from '../policy/prefill.js';
import type { Selector } from '../policy/select.js';
import type { PartSetup } from '../policy/setup.js';
import { BlockLog } from './block-log.js';
import { Cuts } from './cuts.js';
import { kvShape, rowFormat } from './kv-shape.js';
import type { PolicyParts } from './parts.js';
import { Reports } from './reports.js';
import type { Runtime } from './runtime.js';

/** What the parts of a policy remember about one sequence. */
interface PartStates {
  readonly chooser: BlockChooser | undefined;
  readonly selector: Selector | undefined;
  readonly allocator: Allocator | undefined;
  readonly merger: Merger | undefined;
  readonly channels: Channels | undefined;
}

/**
 * The state of one sequence: its cache, what its parts remember, and its counters. It belongs to the sequence alone;
 * neither the model nor a policy object holds any of it, so a second prompt starts as fresh as the first.
 */
export class SequenceState implements Disposable {
  readonly runtime: Runtime;
  readonly parts: PolicyParts;
  readonly kv: KvSequence;
  readonly chooser: BlockChooser | undefined;
  readonly selector: Selector | undefined;
  readonly allocator: Allocator | undefined;
  readonly merger: Merger | undefined;
  readonly channels: Channels | undefined;
  /** How the oldest rows are stored, when a codec or a channels part says so. */
  readonly format: RowFormat | undefined;
  /** Sequences in which these are equal store rows alike: their caches can be one argument of an op. */
  readonly rowsKey: string;
  readonly reports: Reports;
  /** Layers of the running prompt that the budget part has not decided on for good, and what each layer may hold. */
  readonly cuts: Cuts;
  /** What the prefill part chose. */
  readonly blocks: BlockLog;
  /** Positions seen so far. */
  seen = 0;
  /** Calls of append so far. */
  turn = 0;

  private constructor(
    runtime: Runtime,
    parts: PolicyParts,
    kv: KvSequence,
    format: RowFormat | undefined,
    states: PartStates,
    reports: Reports,
    cuts: Cuts,
    blocks: BlockLog,
  ) {
    this.runtime = runtime;
    this.parts = parts;
    this.kv = kv;
    this.format = format;
    const { tallies = 0, positions = 'stored' } = kv.shape;
    this.rowsKey = `${format?.key ?? ''} ${tallies} ${positions}`;
    this.channels = states.channels;
    this.chooser = states.chooser;
    this.selector = states.selector;
    this.allocator = states.allocator;
    this.merger = states.merger;
    this.reports = reports;
    this.cuts = cuts;
    this.blocks = blocks;
  }

  /** @param saved what parts remembered of a sequence that comes from a file */
  static create(
    runtime: Runtime,
    parts: PolicyParts,
    saved: Readonly<Partial<Record<Slot, JsonValue>>> = {},
  ): SequenceState {
    const { spec, stream, device, dtype } = runtime;
    const format = rowFormat(runtime, parts);
    const kv = new KvSequence(runtime.pool, kvShape(runtime, parts, format));
    const rope = (length: number) => runtime.rope.at(length);
    const make = <S>(
      part: (Part & { create(setup: PartSetup, saved?: JsonValue): S }) | undefined,
    ): S | undefined =>
      part?.create(
        { spec, stream, device, dtype, rope, tallies: parts.indices(part) },
        saved[part.slot],
      );
    const states = {
      chooser: make<BlockChooser>(parts.prefill),
      selector: make<Selector>(parts.select),
      allocator: make<Allocator>(parts.budget),
      merger: make<Merger>(parts.merge),
      channels: make<Channels>(parts.channels),
    };
    const blocks = new BlockLog(device, spec, parts.prefill?.figures ?? []);
    return new SequenceState(runtime, parts, kv, format, states, new Reports(), new Cuts(), blocks);
  }

  /** A copy that shares cache pages until one of the two writes to them. */
  fork(): SequenceState {
    const states = {
      chooser: this.chooser?.fork(),
      selector: this.selector?.fork(),
      allocator: this.allocator?.fork(),
      merger: this.merger?.fork(),
      channels: this.channels?.fork(),
    };
    const copy = new SequenceState(
      this.runtime,
      this.parts,
      this.kv.fork(),
      this.format,
      states,
      this.reports.copy(),
      this.cuts.copy(),
      this.blocks.copy(),
    );
    copy.seen = this.seen;
    copy.turn = this.turn;
    return copy;
  }

  dispose(): void {
    this.cuts.dispose();
    this.blocks.dispose();
    this.chooser?.dispose();
    this.selector?.dispose();
    this.allocator?.dispose();
    this.merger?.dispose();
    this.channels?.dispose();
    this.kv.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
