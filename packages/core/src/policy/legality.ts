import type { Part } from './part.js';

/**
 * Which parts go together: one table, read by the compiler (the types below) and at run time ({@link findProblems}).
 * A pattern matches a part whose properties have exactly these values.
 */
export const legality = {
  /** A part in `slot` does nothing without one in `with`. */
  companions: [
    { slot: 'budget', with: 'select', why: 'a budget is used by a select part' },
    { slot: 'merge', with: 'select', why: 'a merge part folds in what a select part evicts' },
  ],
  /** Two parts that must not meet. */
  pairs: [
    {
      a: { slot: 'select', positions: 'cacheRelative' },
      b: { slot: 'channels', pairAligned: false },
      why: 'keys used at their place in the cache are rotated again, which needs both channels of each pair; prune in pairs or use positions: original',
    },
    {
      a: { slot: 'select', evicts: 'everyStep' },
      b: { slot: 'codec', packedRows: 'forbidden' },
      why: 'rows leave one by one but are packed in groups; choose what happens to packed rows: residualOnly, wholeGroups or reencode',
    },
    {
      a: { slot: 'merge' },
      b: { slot: 'codec', packedRows: 'forbidden' },
      why: 'merging changes stored values but these are packed; choose what happens to packed rows: residualOnly or reencode',
    },
    {
      a: { slot: 'merge' },
      b: { slot: 'codec', packedRows: 'wholeGroups' },
      why: 'merging changes single stored values, not groups; choose residualOnly or reencode for packed rows',
    },
  ],
  /** Legal, but probably not what was meant. */
  warnings: [
    {
      a: { slot: 'budget' },
      b: { slot: 'select', id: 'streamingllm' },
      why: 'it keeps the same rows in every layer and head by position, so the allocation has no use',
    },
    {
      a: { slot: 'merge' },
      b: { slot: 'select', evicts: 'prefillEnd' },
      why: 'merging pays when tokens leave one by one during decoding; here most leave at the end of the prompt',
    },
  ],
} as const;

type Pattern = Readonly<Record<string, unknown>>;
interface Pair {
  readonly a: Pattern;
  readonly b: Pattern;
  readonly why: string;
}

/** Decoding always attends densely, so its probabilities exist whatever the prompt's attention was. */
const ALWAYS = 'decodeProbs';

/** Everything that makes a list of parts illegal, in words; empty when it is legal. */
export function findProblems(parts: readonly Part[]): string[] {
  return [
    ...duplicateSlots(parts),
    ...unmetSignals(parts),
    ...missingCompanions(parts),
    ...matches(legality.pairs, parts).map(
      ([a, b, why]) => `${a.id} and ${b.id} do not go together: ${why}`,
    ),
    ...smallResidual(parts),
  ];
}

/** What is legal but probably a mistake. */
export function findWarnings(parts: readonly Part[]): string[] {
  return matches(legality.warnings, parts).map(([a, b, why]) => `${a.id} with ${b.id}: ${why}`);
}

function duplicateSlots(parts: readonly Part[]): string[] {
  const problems: string[] = [];
  for (const [i, second] of parts.entries()) {
    const first = parts.slice(0, i).find((part) => part.slot === second.slot);
    if (first !== undefined) problems.push(`two ${second.slot} parts: ${first.id}, ${second.id}`);
  }
  return problems;
}

function unmetSignals(parts: readonly Part[]): string[] {
  const prefill = parts.find((part) => part.slot === 'prefill');
  if (prefill === undefined) return [];
  return parts
    .filter((part) => part.lossy !== 'approximateSignal')
    .flatMap((part) =>
      part.needs
        .filter((signal) => signal !== ALWAYS && !prefill.provides.includes(signal))
        .map((signal) => `${part.id} needs ${signal}, which ${prefill.id} does not provide`),
    );
}

function missingCompanions(parts: readonly Part[]): string[] {
  return legality.companions.flatMap(({ slot, with: companion, why }) => {
    const lonely = parts.find((part) => part.slot === slot);
    if (lonely === undefined || parts.some((part) => part.slot === companion)) return [];
    return [`${lonely.id} needs a ${companion} part: ${why}`];
  });
}

/** The one rule about numbers, so it has no twin in the types: merge targets must still be unpacked. */
function smallResidual(parts: readonly Part[]): string[] {
  const merge = parts.find((part) => matchesPattern(part, { slot: 'merge' }));
  const codec = parts.find((part) =>
    matchesPattern(part, { slot: 'codec', packedRows: 'residualOnly' }),
  );
  const recent = numberOf(merge, 'recent');
  const residual = numberOf(codec, 'residual');
  if (merge === undefined || codec === undefined || recent === undefined || residual === undefined)
    return [];
  if (recent <= residual) return [];
  return [
    `${merge.id} merges into the ${recent} newest rows, but ${codec.id} keeps only ${residual} unpacked: raise residual to ${recent}`,
  ];
}

function numberOf(part: Part | undefined, key: string): number | undefined {
  const value = (part as Pattern | undefined)?.[key];
  return typeof value === 'number' ? value : undefined;
}

function matches(pairs: readonly Pair[], parts: readonly Part[]): [Part, Part, string][] {
  return pairs.flatMap(({ a, b, why }) => {
    const first = parts.find((part) => matchesPattern(part, a));
    const second = parts.find((part) => part !== first && matchesPattern(part, b));
    return first === undefined || second === undefined
      ? []
      : [[first, second, why] as [Part, Part, string]];
  });
}

function matchesPattern(part: Part, pattern: Pattern): boolean {
  const properties = part as unknown as Pattern;
  return Object.entries(pattern).every(([key, value]) => properties[key] === value);
}
