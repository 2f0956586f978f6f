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
    {
      a: { slot: 'select', turns: 'every' },
      b: { slot: 'codec', packedRows: 'forbidden' },
      why: 'rows leave in later turns too, when older ones are packed already; evict in the first turn only',
    },
    {
      a: { slot: 'select', positions: 'cacheRelative' },
      b: { slot: 'codec', packedRows: 'forbidden' },
      why: 'keys used at their place in the cache need an attention of their own, which reads plain rows only; use positions: original',
    },
    {
      a: { slot: 'select', prefill: 'banded' },
      b: { slot: 'codec', packedRows: 'forbidden' },
      why: 'banded attention reads plain rows only; use prefill: dense',
    },
    {
      a: { slot: 'select', evicts: 'everyStep' },
      b: { slot: 'channels', packedRows: 'forbidden' },
      why: 'rows leave one by one, but keys that have lost channels lie in groups and stay; evict at the end of the prompt',
    },
    {
      a: { slot: 'merge', at: 'decode' },
      b: { slot: 'channels', packedRows: 'forbidden' },
      why: 'merging while decoding goes by the attention of each step, which is not counted over pruned keys',
    },
    {
      a: { slot: 'select', turns: 'every' },
      b: { slot: 'channels', packedRows: 'forbidden' },
      why: 'rows leave in later turns too, when older ones are pruned already; evict in the first turn only',
    },
    {
      a: { slot: 'select', positions: 'cacheRelative' },
      b: { slot: 'channels', packedRows: 'forbidden' },
      why: 'keys used at their place in the cache need an attention of their own, which reads plain rows only; use positions: original',
    },
    {
      a: { slot: 'select', prefill: 'banded' },
      b: { slot: 'channels', packedRows: 'forbidden' },
      why: 'banded attention reads plain rows only; use prefill: dense',
    },
    {
      a: { slot: 'prefill' },
      b: { slot: 'select', prefill: 'banded' },
      why: 'each computes the attention of the prompt in its own way; use prefill: dense',
    },
    {
      a: { slot: 'merge', at: 'decode' },
      b: { slot: 'select', prefill: 'banded' },
      why: 'a banded prompt gives no attention for merging to go by; use prefill: dense',
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
      a: { slot: 'merge', at: 'decode' },
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

/** Something to be said about parts that meet. */
export interface Finding {
  /** Ids of the parts it is about. */
  readonly parts: readonly string[];
  /** The rule, without them. */
  readonly why: string;
  /** Both, in words. */
  readonly text: string;
}

/** What {@link legality} has to say about parts. */
export interface Verdict {
  /** What makes them illegal. */
  readonly problems: readonly Finding[];
  /** What is legal but probably a mistake. */
  readonly warnings: readonly Finding[];
}

/** Holds parts against the table. They are legal when there are no problems. */
export function judge(parts: readonly Part[]): Verdict {
  return {
    problems: [
      ...duplicateSlots(parts),
      ...unmetSignals(parts),
      ...missingCompanions(parts),
      ...matches(legality.pairs, parts, (a, b, why) => `${a} and ${b} do not go together: ${why}`),
      ...smallResidual(parts),
    ],
    warnings: matches(legality.warnings, parts, (a, b, why) => `${a} with ${b}: ${why}`),
  };
}

/** Everything that makes a list of parts illegal, in words; empty when it is legal. */
export function findProblems(parts: readonly Part[]): string[] {
  return judge(parts).problems.map(({ text }) => text);
}

/** What is legal but probably a mistake. */
export function findWarnings(parts: readonly Part[]): string[] {
  return judge(parts).warnings.map(({ text }) => text);
}

function duplicateSlots(parts: readonly Part[]): Finding[] {
  const problems: Finding[] = [];
  for (const [i, second] of parts.entries()) {
    const first = parts.slice(0, i).find((part) => part.slot === second.slot);
    if (first === undefined) continue;
    const what = `two ${second.slot} parts`;
    problems.push({
      parts: [first.id, second.id],
      why: `${what}, but a policy has at most one in each slot`,
      text: `${what}: ${first.id}, ${second.id}`,
    });
  }
  return problems;
}

function unmetSignals(parts: readonly Part[]): Finding[] {
  const prefill = parts.find((part) => part.slot === 'prefill');
  if (prefill === undefined) return [];
  return parts
    .filter((part) => part.lossy !== 'approximateSignal')
    .flatMap((part) =>
      part.needs
        .filter((signal) => signal !== ALWAYS && !prefill.provides.includes(signal))
        .map((signal) => ({
          parts: [part.id, prefill.id],
          why: `the one needs ${signal}, which the other does not provide`,
          text: `${part.id} needs ${signal}, which ${prefill.id} does not provide`,
        })),
    );
}

function missingCompanions(parts: readonly Part[]): Finding[] {
  return legality.companions.flatMap(({ slot, with: companion, why }) => {
    const lonely = parts.find((part) => part.slot === slot);
    if (lonely === undefined || parts.some((part) => part.slot === companion)) return [];
    return [{ parts: [lonely.id], why, text: `${lonely.id} needs a ${companion} part: ${why}` }];
  });
}

/** The one rule about numbers, so it has no twin in the types: merge targets must still be unpacked. */
function smallResidual(parts: readonly Part[]): Finding[] {
  const merge = parts.find((part) => matchesPattern(part, { slot: 'merge' }));
  const codec = parts.find((part) =>
    matchesPattern(part, { slot: 'codec', packedRows: 'residualOnly' }),
  );
  const recent = numberOf(merge, 'recent');
  const residual = numberOf(codec, 'residual');
  if (merge === undefined || codec === undefined || recent === undefined || residual === undefined)
    return [];
  if (recent <= residual) return [];
  const text = Number.isFinite(recent)
    ? `${merge.id} merges into the ${recent} newest rows, but ${codec.id} keeps only ${residual} unpacked: raise residual to ${recent}`
    : `${merge.id} merges into any row, but ${codec.id} keeps only ${residual} unpacked: set recent to ${residual}`;
  const why =
    'values would be merged into rows that are packed already; recent must not exceed residual';
  return [{ parts: [merge.id, codec.id], why, text }];
}

function numberOf(part: Part | undefined, key: string): number | undefined {
  const value = (part as Pattern | undefined)?.[key];
  return typeof value === 'number' ? value : undefined;
}

function matches(
  pairs: readonly Pair[],
  parts: readonly Part[],
  sentence: (a: string, b: string, why: string) => string,
): Finding[] {
  return pairs.flatMap(({ a, b, why }) => {
    const first = parts.find((part) => matchesPattern(part, a));
    const second = parts.find((part) => part !== first && matchesPattern(part, b));
    if (first === undefined || second === undefined) return [];
    return [{ parts: [first.id, second.id], why, text: sentence(first.id, second.id, why) }];
  });
}

function matchesPattern(part: Part, pattern: Pattern): boolean {
  const properties = part as unknown as Pattern;
  return Object.entries(pattern).every(([key, value]) => properties[key] === value);
}
