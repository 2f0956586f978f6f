import type { legality } from './legality.js';
import type { Part, Signal, Slot } from './part.js';

/** What an argument of `compose` must be when the parts do not go together: never satisfiable, and it says why. */
export interface Illegal<Reason extends string> {
  readonly illegal: Reason;
}

/**
 * `P` itself when the parts go together, else arguments of type {@link Illegal} whose text is the reason. Whatever the
 * types leave open (an option that is a union, a list whose length is not known) is checked when the program runs.
 */
export type Check<P extends readonly Part[]> = [Problem<P>] extends [never]
  ? P
  : { readonly [K in keyof P]: Illegal<Problem<P>> };

/** The first reason why `P` is illegal, or never. */
export type Problem<P extends readonly Part[]> = number extends P['length']
  ? never
  : FirstOf<[DuplicateSlot<P>, UnmetSignal<P>, MissingCompanion<P>, IllegalPair<P>]>;

type FirstOf<L extends readonly unknown[]> = L extends readonly [infer H, ...infer T]
  ? [H] extends [never]
    ? FirstOf<T>
    : Extract<H, string>
  : never;

type DuplicateSlot<P extends readonly Part[]> = P extends readonly [
  infer H extends Part,
  ...infer T extends readonly Part[],
]
  ? SameSlot<H, T> extends infer D
    ? [D] extends [never]
      ? DuplicateSlot<T>
      : D extends Part
        ? `two ${H['slot']} parts: ${H['id']}, ${D['id']}`
        : never
    : never
  : never;

type SameSlot<H extends Part, T extends readonly Part[]> = Slot extends H['slot']
  ? never
  : T extends readonly [infer X extends Part, ...infer R extends readonly Part[]]
    ? X['slot'] extends H['slot']
      ? X
      : SameSlot<H, R>
    : never;

type UnmetSignal<P extends readonly Part[]> =
  Extract<P[number], { readonly slot: 'prefill' }> extends infer F
    ? [F] extends [never]
      ? never
      : F extends Part
        ? Unmet<P[number], F>
        : never
    : never;

// A part opts in by its type: `lossy` must be the literal. Needs that may be anything are left to run time.
type Unmet<Q, F extends Part> = Q extends Part
  ? [Q['lossy']] extends ['approximateSignal']
    ? never
    : Signal extends Q['needs'][number]
      ? never
      : Exclude<Q['needs'][number], F['provides'][number] | 'decodeProbs'> extends infer S
        ? S extends string
          ? `${Q['id']} needs ${S}, which ${F['id']} does not provide`
          : never
        : never
  : never;

type Companion = (typeof legality.companions)[number];
type MissingCompanion<
  P extends readonly Part[],
  C extends Companion = Companion,
> = C extends Companion
  ? C['with'] extends P[number]['slot']
    ? never
    : Extract<P[number], { readonly slot: C['slot'] }> extends infer Q
      ? Q extends Part
        ? `${Q['id']} needs a ${C['with']} part: ${C['why']}`
        : never
      : never
  : never;

type Pair = (typeof legality.pairs)[number];
type IllegalPair<P extends readonly Part[], R extends Pair = Pair> = R extends Pair
  ? Extract<P[number], R['a']> extends infer A
    ? A extends Part
      ? Extract<P[number], R['b']> extends infer B
        ? B extends Part
          ? `${A['id']} and ${B['id']} do not go together: ${R['why']}`
          : never
        : never
      : never
    : never
  : never;
