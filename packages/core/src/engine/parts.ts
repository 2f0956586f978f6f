import { AccelError } from '@accel/kernels';
import type { BudgetPart } from '../policy/allocate.js';
import type { ChannelsPart } from '../policy/channels.js';
import type { CodecPart } from '../policy/codec.js';
import type { Policy } from '../policy/compose.js';
import type { MergePart } from '../policy/merge.js';
import type { Part, Slot } from '../policy/part.js';
import type { PrefillPart } from '../policy/prefill.js';
import type { SelectPart } from '../policy/select.js';
import { countsDecode, countsPrompt, type TallyRequest } from '../policy/tally.js';

/** Slots whose parts the engine carries out. A part that would be ignored is an error, never a silent no-op. */
const SUPPORTED: ReadonlySet<Slot> = new Set<Slot>([
  'prefill',
  'select',
  'budget',
  'merge',
  'channels',
  'codec',
]);

/** A policy as the engine carries it out: its parts by slot, and the numbers that have to follow every row. */
export class PolicyParts {
  /** In the order of the policy. */
  readonly all: readonly Part[];
  readonly prefill: PrefillPart | undefined;
  readonly select: SelectPart | undefined;
  readonly budget: BudgetPart | undefined;
  readonly merge: MergePart | undefined;
  readonly channels: ChannelsPart | undefined;
  readonly codec: CodecPart | undefined;
  /** What follows each row; equal requests are one number. */
  readonly tallies: readonly TallyRequest[];
  /** Last queries of a prompt that some part gets to see. */
  readonly observe: number;
  readonly countsPrompt: boolean;
  readonly countsDecode: boolean;
  readonly #indices = new Map<Part, readonly number[]>();
  /** {@link tallies} as one value to compare: every layer of every step asks. */
  readonly #tallyKey: string;

  constructor(policy: Policy) {
    const idle = policy.parts.filter(({ slot }) => !SUPPORTED.has(slot));
    if (idle.length > 0) {
      throw new AccelError(
        'ERR_ACCEL_POLICY',
        `This version of the engine does not carry out ${idle.map(({ id, slot }) => `${id} (slot ${slot})`).join(', ')}. Leave it out, or install a version of @accel/core that does.`,
      );
    }
    this.all = policy.parts;
    const find = (slot: Slot): Part | undefined => policy.parts.find((part) => part.slot === slot);
    this.prefill = find('prefill') as PrefillPart | undefined;
    this.select = find('select') as SelectPart | undefined;
    this.budget = find('budget') as BudgetPart | undefined;
    this.merge = find('merge') as MergePart | undefined;
    this.channels = find('channels') as ChannelsPart | undefined;
    this.codec = find('codec') as CodecPart | undefined;
    assertRowsStay(this.codec, this.channels);
    const tallies: TallyRequest[] = [];
    for (const part of [this.select, this.merge]) {
      if (part !== undefined) this.#indices.set(part, assign(part.tallies ?? [], tallies));
    }
    this.tallies = tallies;
    this.#tallyKey = JSON.stringify(tallies);
    this.observe = Math.max(
      this.select?.observe ?? 0,
      this.budget?.observe ?? 0,
      this.merge?.observe ?? 0,
      this.channels?.observe ?? 0,
    );
    this.countsPrompt = tallies.some(countsPrompt);
    this.countsDecode = tallies.some(countsDecode);
  }

  /** Where the numbers that a part asked for are in a row's record. */
  indices(part: Part): readonly number[] {
    return this.#indices.get(part) ?? [];
  }

  /** Whether a decode step can write the tallies of both in one call. */
  countsLike(other: PolicyParts): boolean {
    return this.#tallyKey === other.#tallyKey;
  }
}

/**
 * Encoded rows do not leave and do not change here, and attention over them is not counted, so a part that promises more
 * would be let down in the middle of a generation.
 */
function assertRowsStay(...parts: readonly (CodecPart | ChannelsPart | undefined)[]): void {
  for (const part of parts) {
    if (part === undefined || part.packedRows === 'forbidden') continue;
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `${part.id} (slot ${part.slot}) has packedRows: ${part.packedRows}, and this version of the engine carries out 'forbidden' only. Set packedRows to 'forbidden', or install a version of @accel/core that does.`,
    );
  }
}

/** Adds requests to a list, unless an equal one is there. @returns their places */
function assign(requests: readonly TallyRequest[], tallies: TallyRequest[]): number[] {
  return requests.map((request) => {
    const key = JSON.stringify(request);
    const known =
      request.kind === 'own' ? -1 : tallies.findIndex((one) => JSON.stringify(one) === key);
    return known >= 0 ? known : tallies.push(request) - 1;
  });
}
