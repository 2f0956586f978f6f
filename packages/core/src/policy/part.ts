/** A value that JSON can hold. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/** An object that JSON can hold; keys that are `undefined` are left out. */
export interface JsonObject {
  readonly [key: string]: JsonValue | undefined;
}

/** Places in the pipeline; a policy has at most one part in each. */
export const slots = ['prefill', 'budget', 'select', 'merge', 'channels', 'codec'] as const;

/**
 * A place in the pipeline: attention of the prompt, rows per layer and head, which rows stay, what becomes of the
 * others, key channels, and the format of stored rows.
 */
export type Slot = (typeof slots)[number];

/** Numbers that a part can ask the engine for, and that a sparse prefill may not be able to give. */
export const signals = ['observedWindow', 'columnSums', 'decodeProbs', 'headStats'] as const;

/**
 * - `observedWindow`: softmax rows of the last queries over all keys, computed densely
 * - `columnSums`: attention that each key received from all queries
 * - `decodeProbs`: attention probabilities of the token being decoded
 * - `headStats`: per-head statistics of the observed window
 */
export type Signal = (typeof signals)[number];

/**
 * One method's contribution to a policy: a frozen description that JSON can hold. It says what it needs and does; the
 * state it works on belongs to each sequence.
 */
export interface Part<
  Id extends string = string,
  S extends Slot = Slot,
  N extends Signal = Signal,
  P extends Signal = Signal,
> {
  /** Method name in lower case. */
  readonly id: Id;
  readonly slot: S;
  /** Signals it cannot work without. */
  readonly needs: readonly N[];
  /** Signals that still exist when this part does the prompt's attention; read for the `prefill` slot only. */
  readonly provides: readonly P[];
  /** Whether results change; `'approximateSignal'`: the part was told to accept a signal that covers part of the keys. */
  readonly lossy: boolean | 'approximateSignal';
  /** Everything needed to make the part again, in the method's own option names. */
  readonly options: JsonObject;
}

/** Freezes a part and everything in its options and lists. */
export function freezePart<const T extends Part>(part: T): T {
  for (const value of [part.options, part.needs, part.provides]) freezeDeep(value);
  return Object.freeze(part);
}

function freezeDeep(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  for (const item of Object.values(value)) freezeDeep(item);
}
