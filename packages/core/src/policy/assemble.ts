import { AccelError } from '@accel/kernels';
import { legality } from './legality.js';
import type { Method } from './method.js';
import type { Part } from './part.js';

/** A method that was named, and the parts that its config made. */
export interface NamedParts {
  readonly method: Pick<Method, 'id' | 'title' | 'optionalSlots'>;
  readonly parts: readonly Part[];
}

/** How firmly a part claims its slot. */
const claim = { suggestion: 0, companion: 1, optional: 2, own: 3 } as const;

interface Candidate {
  readonly part: Part;
  readonly by: NamedParts['method'];
  readonly claim: number;
}

/**
 * Picks the parts of methods that were named together, `SnapKV+PyramidKV`, for {@link compose}. The order of the names has
 * no meaning. Of several parts for a slot, those with the strongest claim stay:
 *
 * 1. a method's own part, whose id is the method's
 * 2. a method's own part in one of its `optionalSlots`, which it has for want of another: CakeKV's selection
 * 3. a companion, a part of another method brought along because the method needs one: the SnapKV that PyramidKV
 *    allots for
 * 4. a suggestion, a part of another method that it was published with but works without: the SnapKV of ThinK's configs
 *
 * So a method that was named replaces what others brought along, and two methods that both insist on a slot are left for
 * {@link compose} to refuse. Equal companions are one.
 *
 * @returns the parts in the order of the methods
 * @throws AccelError `ERR_ACCEL_POLICY` when methods bring different companions for a slot and nothing else fills it
 * @example
 * compose(...assemble([
 *   { method: snapkv, parts: snapkv.fromConfig({}) },
 *   { method: pyramidkv, parts: pyramidkv.fromConfig({}) },
 * ]));
 */
export function assemble(named: readonly NamedParts[]): Part[] {
  const candidates = named.flatMap(({ method, parts }) =>
    parts.map((part): Candidate => ({ part, by: method, claim: claimOf(method, part, parts) })),
  );
  const kept: Candidate[] = [];
  for (const candidate of candidates) {
    const rivals = candidates.filter(({ part }) => part.slot === candidate.part.slot);
    if (rivals.some((rival) => rival.claim > candidate.claim)) continue;
    if (candidate.claim <= claim.companion) {
      const other = kept.find(({ part }) => part.slot === candidate.part.slot);
      // Companions of one method are its own business.
      if (other !== undefined && other.by !== candidate.by) {
        if (sameParts(other.part, candidate.part)) continue;
        throw ambiguous(other, candidate);
      }
    }
    kept.push(candidate);
  }
  return kept.map(({ part }) => part);
}

function claimOf(method: NamedParts['method'], part: Part, parts: readonly Part[]): number {
  if (part.id !== method.id) {
    const needed = legality.companions.some(
      ({ slot, with: companion }) =>
        companion === part.slot && parts.some((own) => own.id === method.id && own.slot === slot),
    );
    return needed ? claim.companion : claim.suggestion;
  }
  return method.optionalSlots?.includes(part.slot) === true ? claim.optional : claim.own;
}

function sameParts(a: Part, b: Part): boolean {
  return a.id === b.id && JSON.stringify(a.options) === JSON.stringify(b.options);
}

function ambiguous(first: Candidate, second: Candidate): AccelError {
  const { slot } = first.part;
  return new AccelError(
    'ERR_ACCEL_POLICY',
    `${first.by.title} brings the ${slot} part of ${first.part.id} along, ${second.by.title} that of ${second.part.id}. ` +
      `Name the ${slot} method you mean as well: ${first.part.id}+${first.by.id}+${second.by.id}, for example.`,
  );
}
