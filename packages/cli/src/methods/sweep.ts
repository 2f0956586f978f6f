import type { Budget, JsonObject, JsonValue } from '@accel/core';
import { UsageError } from '../errors.js';
import { splitList } from '../values.js';
import { findMethod } from './registry.js';

/** A change to the options of methods, by id, and what its results are called then. */
export interface Variant {
  /** Behind the methods' names: `@512`, `[bits=2]`. */
  readonly suffix: string;
  readonly change: (id: string, options: JsonObject) => JsonObject;
  /** False for the methods as they are. */
  readonly changes: boolean;
}

/** Values to try: budgets for every method that has one, and options of single methods. */
export interface Sweep {
  readonly budgets: readonly Budget[];
  /** Method id → option paths with their values. */
  readonly options: ReadonlyMap<string, readonly SweptOption[]>;
}

/** An option and the values to try. */
export interface SweptOption {
  /** `bits`, `pool.size` */
  readonly path: string;
  readonly values: readonly JsonValue[];
}

/** Nothing varied. */
export const NO_SWEEP: Sweep = { budgets: [], options: new Map() };

/** Reads `--budgets`: rows (`512`), or shares of the prompt (`25%`, `0.25`). */
export function parseBudgets(words: readonly string[]): Budget[] {
  return splitList(words).map((word) => {
    const share = word.endsWith('%') ? Number(word.slice(0, -1)) / 100 : Number(word);
    const rows = Number(word);
    if (Number.isSafeInteger(rows) && rows >= 1) return { tokens: rows };
    if (share > 0 && share <= 1) return { keep: share };
    throw new UsageError(
      `"${word}" is not a budget. Use rows, such as 512, or a share of the prompt, such as 25%.`,
    );
  });
}

/** Reads the values of `--sweep method.option=a,b`; each word may be repeated for other options. */
export function parseSweeps(words: readonly string[]): Sweep['options'] {
  const options = new Map<string, SweptOption[]>();
  for (const word of words) {
    const match = /^([^.=]+)\.([^=]+)=(.+)$/.exec(word);
    if (match === null) {
      throw new UsageError(`--sweep takes METHOD.OPTION=VALUE,VALUE, not "${word}".`);
    }
    const [, name = '', path = '', list = ''] = match;
    const { id } = findMethod(name);
    const values = splitList([list]).map(parseValue);
    options.set(id, [...(options.get(id) ?? []), { path, values }]);
  }
  return options;
}

/** Every combination of what the sweep varies in methods that are joined; they share a budget. */
export function variantsOf(ids: readonly string[], sweep: Sweep): Variant[] {
  // Where one is named that selects rows, what others bring along to select is not used.
  const selecting = ids.filter((id) => id in SELECTS);
  const budgeted = selecting.length > 0 ? SELECTS : COMPANIONS;
  let variants: Variant[] = [{ suffix: '', change: (_, options) => options, changes: false }];
  if (sweep.budgets.length > 0 && ids.some((id) => id in budgeted)) {
    variants = sweep.budgets.map((budget) => ({
      suffix: `@${'tokens' in budget ? String(budget.tokens) : `${formatShare(budget.keep)}%`}`,
      change: (id, options) => budgeted[id]?.(options, { ...budget }) ?? options,
      changes: true,
    }));
  }
  const swept = ids.flatMap((id) =>
    (sweep.options.get(id) ?? []).map((option) => ({ id, ...option })),
  );
  for (const { id: of, path, values } of swept) {
    variants = variants.flatMap(({ suffix, change }) =>
      values.map((value) => ({
        suffix: `${suffix}[${path}=${JSON.stringify(value).replaceAll('"', '')}]`,
        change: (id, options) => {
          const changed = change(id, options);
          return id === of ? withOption(changed, path.split('.'), value) : changed;
        },
        changes: true,
      })),
    );
  }
  return variants;
}

/** Other names of the budget in the seed toolkit's files, which would contradict a new one. */
const SEED_BUDGETS = new Set(['max_capacity_prompt', 'cache_size']);

const withoutSeed = (options: JsonObject): JsonObject =>
  without(options, (key) => SEED_BUDGETS.has(key));

const direct = (options: JsonObject, budget: JsonObject): JsonObject => ({
  ...withoutSeed(options),
  budget,
});

/** StreamingLLM's options name the newest rows; a budget is those and the sinks. */
const streaming = (options: JsonObject, budget: JsonObject): JsonObject => ({
  ...without(options, (key) => SEED_BUDGETS.has(key) || key === 'recent' || key === 'window_size'),
  budget,
});

type SetBudget = Readonly<
  Record<string, ((options: JsonObject, budget: JsonObject) => JsonObject) | undefined>
>;

/** Where the options of methods that select rows say how many are kept. */
const SELECTS: SetBudget = {
  cakekv: direct,
  h2o: direct,
  l2compress: direct,
  pyramidkv: direct,
  snapkv: direct,
  streamingllm: streaming,
};

/** The same for methods that bring a selection along to work alone. Others keep all rows. */
const COMPANIONS: SetBudget = {
  cam: (options, budget) =>
    'max_capacity_prompt' in options || options['at'] === 'prompt'
      ? { ...options, snapkv: { budget } }
      : { ...options, streamingllm: streaming(objectOf(options['streamingllm']), budget) },
  think: (options, budget) => ({
    ...withoutSeed(options),
    snapkv: direct(objectOf(options['snapkv']), budget),
  }),
};

function withOption(options: JsonObject, path: readonly string[], value: JsonValue): JsonObject {
  const [key = '', ...rest] = path;
  return {
    ...options,
    [key]: rest.length === 0 ? value : withOption(objectOf(options[key]), rest, value),
  };
}

function without(options: JsonObject, drop: (key: string) => boolean): JsonObject {
  return Object.fromEntries(Object.entries(options).filter(([key]) => !drop(key)));
}

function objectOf(value: JsonValue | undefined): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : {};
}

/** Numbers, true, false and null as such, anything else as text. */
function parseValue(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return text;
  }
}

function formatShare(share: number): string {
  return String(Number((share * 100).toPrecision(6)));
}
