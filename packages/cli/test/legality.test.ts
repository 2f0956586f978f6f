import { cakeBudget, cakekv } from '@accel/cakekv';
import { cam } from '@accel/cam';
import {
  AccelError,
  compose,
  loadModel,
  type Model,
  type Part,
  type Policy,
  type Problem,
  type Receipt,
} from '@accel/core';
import { h2o } from '@accel/h2o';
import { kivi as realKivi } from '@accel/kivi';
import { l2compress } from '@accel/l2compress';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { think as realThink } from '@accel/think';
import { writeTinyCheckpoint, type TinyCheckpoint } from '@accel/testkit';
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from 'vitest';
import { flexprefill, kivi, think, xattention } from './described.js';

// Every rule about H2O, L2Compress, PyramidKV, CakeKV and CaM, with the parts that their packages make. Legal pairs run on
// a tiny model, and the receipt must show that each part acted; illegal ones fail in tsc and at run time, with the reason.

const PROMPT = 160;
const DECODED = 24;
/** Small enough that every method has to act on the prompt. */
const budget = { tokens: 48 };

const parts = {
  snapkv: snapkv({ budget, observe: 8 }),
  h2o: h2o({ budget, recent: 16 }),
  l2compress: l2compress({ budget }),
  streamingllm: streamingllm({ sink: 4, budget }),
  pyramidkv: pyramidkv({ beta: 10 }),
  cakeBudget: cakeBudget({ observe: 8 }),
  cam: cam({ gate: 'always', targets: 4 }),
};
const cake = cakekv({ budget, observe: 8 });

let checkpoint: TinyCheckpoint;
let model: Model;
beforeAll(async () => {
  // L2Compress leaves the first two layers alone.
  checkpoint = writeTinyCheckpoint({ layers: 4 });
  model = await loadModel(checkpoint.path, { dtype: 'float32', kvBytes: 64 << 20 });
});
afterAll(() => {
  model.dispose();
  checkpoint.dispose();
});

const prompt = Int32Array.from({ length: PROMPT }, (_, i) => (i * 37 + (i % 11) * 5) % 256);

/** A prompt and some tokens under a policy; its receipt, and the rows of each layer as they were after the prompt. */
async function run(
  policy: Policy,
  strict = true,
): Promise<{ receipt: Receipt; after: number[]; tokens: number[]; logits: Float32Array }> {
  using sequence = model.sequence({ policy, strict });
  await sequence.append(prompt);
  const after = sequence.receipt().layers.map(({ rowsKept }) => Math.max(...rowsKept));
  const tokens: number[] = [];
  const sampling = { maxTokens: DECODED, ignoreEos: true };
  for await (const { id } of sequence.generate(sampling)) tokens.push(id);
  return { receipt: sequence.receipt(), after, tokens, logits: await sequence.logits() };
}

/** Runs a policy strictly; every part must have acted, and rows must have left. */
async function expectAllAct(policy: Policy): ReturnType<typeof run> {
  const result = await run(policy);
  for (const part of result.receipt.parts) {
    expect(part.acted, `${part.id} ${part.slot}`).toBeGreaterThan(0);
  }
  const held = result.receipt.layers.map(({ rowsKept }) => Math.max(...rowsKept));
  expect(Math.min(...held)).toBeLessThan(PROMPT);
  return result;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** The run-time half of an illegal row; the `@ts-expect-error` inside the callback is the other half. */
function expectIllegal(action: () => unknown, reason: string | RegExp): void {
  let thrown: unknown;
  try {
    action();
  } catch (error) {
    thrown = error;
  }
  expect(AccelError.isInstance(thrown), String(thrown)).toBe(true);
  expect(thrown).toMatchObject({ code: 'ERR_ACCEL_POLICY' });
  expect((thrown as Error).message).toMatch(reason);
}

const ids = (policy: Policy): string[] => policy.parts.map(({ id }) => id);

describe('selection by the last queries, and budgets, with a sparse prefill: legal', () => {
  it('SnapKV, PyramidKV and CakeKV need the observed window only', () => {
    expect(ids(compose(flexprefill, parts.snapkv))).toHaveLength(2);
    expect(ids(compose(flexprefill, parts.snapkv, parts.pyramidkv))).toHaveLength(3);
    expect(ids(compose(xattention, parts.pyramidkv, parts.snapkv))).toHaveLength(3);
    expect(ids(compose(flexprefill, ...cake))).toHaveLength(3);
    expect(ids(compose(xattention, ...cake))).toHaveLength(3);
    expect(ids(compose(xattention, parts.cakeBudget, parts.snapkv))).toHaveLength(3);
  });

  it('L2Compress and StreamingLLM need no signal', () => {
    compose(flexprefill, parts.l2compress);
    compose(xattention, parts.l2compress, parts.pyramidkv);
    compose(flexprefill, parts.streamingllm);
  });
});

describe('H2O and CaM with a sparse prefill: only on request', () => {
  it('fail, because column sums are missing', () => {
    expectTypeOf<
      Problem<[typeof flexprefill, typeof parts.h2o]>
    >().toEqualTypeOf<'h2o needs columnSums, which flexprefill does not provide'>();
    expectIllegal(() => {
      // @ts-expect-error h2o needs columnSums
      compose(flexprefill, parts.h2o);
    }, 'h2o needs columnSums, which flexprefill does not provide');
    expectIllegal(() => {
      // @ts-expect-error h2o needs columnSums, in any order
      compose(parts.h2o, parts.pyramidkv, xattention);
    }, 'h2o needs columnSums, which xattention does not provide');
    expectIllegal(() => {
      // @ts-expect-error cam needs columnSums
      compose(xattention, parts.streamingllm, parts.cam);
    }, 'cam needs columnSums, which xattention does not provide');
  });

  it('are legal with approximateSignal, or without need of the prompt', () => {
    const approximate = h2o({ budget, approximateSignal: true });
    expectTypeOf<Problem<[typeof flexprefill, typeof approximate]>>().toBeNever();
    expect(compose(flexprefill, approximate).parts[1].lossy).toBe('approximateSignal');
    compose(xattention, approximate, cam({ approximateSignal: true }));
    compose(xattention, parts.streamingllm, cam({ statistic: 'decode' }));
  });
});

describe('budgets', () => {
  it('two allocators: illegal', () => {
    expectTypeOf<
      Problem<[typeof parts.pyramidkv, typeof parts.snapkv, typeof parts.cakeBudget]>
    >().toEqualTypeOf<'two budget parts: pyramidkv, cakekv'>();
    expectIllegal(() => {
      // @ts-expect-error two budget parts
      compose(parts.pyramidkv, parts.snapkv, parts.cakeBudget);
    }, 'two budget parts: pyramidkv, cakekv');
    expectIllegal(() => {
      // @ts-expect-error two budget parts
      compose(parts.pyramidkv, ...cake);
    }, 'two budget parts: pyramidkv, cakekv');
  });

  it('alone: illegal', () => {
    expectIllegal(() => {
      // @ts-expect-error a budget is used by a select part
      compose(parts.pyramidkv);
    }, 'pyramidkv needs a select part: a budget is used by a select part');
    expectIllegal(() => {
      // @ts-expect-error a budget is used by a select part
      compose(parts.cakeBudget);
    }, 'cakekv needs a select part');
  });

  const selectors = { snapkv: parts.snapkv, h2o: parts.h2o, l2compress: parts.l2compress };
  it.each(Object.entries(selectors))('PyramidKV over %s: rows fall with depth', async (_, part) => {
    const policy = compose(part as Part, parts.pyramidkv);
    expect(policy.warnings).toEqual([]);
    const { after } = await expectAllAct(policy);
    // A selector that leaves the first layers alone does so under a budget too.
    const cut = after.filter((rows) => rows < PROMPT);
    expect(cut.length).toBeGreaterThanOrEqual(2);
    expect(new Set(cut).size).toBeGreaterThan(1);
    expect(cut).toEqual([...cut].sort((a, b) => b - a));
  });

  it.each(Object.entries(selectors))('CAKE budgets over %s: uneven', async (_, part) => {
    const policy = compose(part as Part, parts.cakeBudget);
    expect(policy.warnings).toEqual([]);
    const { after } = await expectAllAct(policy);
    const cut = after.filter((rows) => rows < PROMPT);
    expect(cut.length).toBeGreaterThanOrEqual(2);
    expect(new Set(cut).size).toBeGreaterThan(1);
  });

  it('sum to the selector’s own over the layers', async () => {
    const layers = model.spec.layers;
    for (const allocator of [parts.pyramidkv, parts.cakeBudget]) {
      const { after } = await run(compose(parts.snapkv as Part, allocator as Part));
      expect(sum(after), allocator.id).toBe(layers * budget.tokens);
    }
  });

  it('CakeKV alone: both of its parts act', async () => {
    const { receipt } = await expectAllAct(compose(...cake));
    expect(receipt.parts.map(({ id, slot }) => `${id} ${slot}`)).toEqual([
      'cakekv budget',
      'cakekv select',
    ]);
  });

  it('over StreamingLLM: legal, pointless, with a warning', async () => {
    for (const allocator of [parts.pyramidkv, parts.cakeBudget]) {
      const policy = compose(parts.streamingllm as Part, allocator as Part);
      expect(policy.warnings).toHaveLength(1);
      expect(policy.warnings[0]).toContain(
        `${allocator.id} with streamingllm: it keeps the same rows`,
      );
      const { after } = await run(policy, false);
      expect(after).toEqual(after.map(() => budget.tokens));
    }
  });
});

describe('two selectors: illegal', () => {
  it('whichever', () => {
    expectTypeOf<
      Problem<[typeof parts.h2o, typeof parts.l2compress]>
    >().toEqualTypeOf<'two select parts: h2o, l2compress'>();
    expectIllegal(() => {
      // @ts-expect-error two select parts
      compose(parts.h2o, parts.l2compress);
    }, 'two select parts: h2o, l2compress');
    expectIllegal(() => {
      // @ts-expect-error two select parts
      compose(parts.snapkv, ...cake);
    }, 'two select parts: snapkv, cakekv');
  });
});

describe('CaM', () => {
  const withRows = {
    streamingllm: [parts.streamingllm],
    h2o: [parts.h2o],
    cakekv: cake,
    'h2o under pyramidkv': [parts.h2o, parts.pyramidkv],
  } satisfies Record<string, readonly Part[]>;
  it.each(Object.entries(withRows))('on %s: rows are folded as they leave', async (_, base) => {
    const policy = compose(...([...base, parts.cam] as Part[]));
    expect(policy.warnings).toEqual([]);
    const { receipt } = await expectAllAct(policy);
    expect(receipt.parts.find(({ id }) => id === 'cam')?.acted).toBeGreaterThanOrEqual(DECODED / 2);
  });

  it('keeps as many rows as without it, and changes the logits', async () => {
    const plain = await run(compose(parts.streamingllm));
    const merged = await run(compose(parts.streamingllm, parts.cam));
    expect(merged.after).toEqual(plain.after);
    expect(merged.receipt.layers).toEqual(plain.receipt.layers);
    expect(merged.logits).not.toEqual(plain.logits);
  });

  it('on a selection at the end of the prompt: legal, with a warning', async () => {
    for (const base of [[parts.snapkv], [parts.snapkv, parts.pyramidkv], [parts.l2compress]]) {
      const policy = compose(...([...base, parts.cam] as Part[]));
      expect(policy.warnings).toHaveLength(1);
      expect(policy.warnings[0]).toMatch(/^cam with (snapkv|l2compress): merging pays/);
      await run(policy, false);
    }
  });

  it('alone: illegal', () => {
    expectIllegal(() => {
      // @ts-expect-error a merge part folds in what a select part evicts
      compose(parts.cam);
    }, 'cam needs a select part: a merge part folds in what a select part evicts');
  });

  it('after a banded prompt, which has no attention to go by: illegal', () => {
    const banded = streamingllm({ sink: 4, budget, prefill: 'banded' });
    expectIllegal(() => {
      // @ts-expect-error a banded prompt gives no attention for merging to go by
      compose(banded, parts.cam);
    }, 'cam and streamingllm do not go together: a banded prompt gives no attention');
  });
});

describe('with a codec that packs rows', () => {
  it('eviction at the end of the prompt: legal, survivors in order', () => {
    const codec = kivi('forbidden');
    compose(parts.snapkv, codec);
    compose(parts.snapkv, parts.pyramidkv, codec);
    compose(parts.snapkv, parts.cakeBudget, codec);
    compose(parts.l2compress, codec);
    compose(h2o({ budget, evicts: 'prefillEnd' }), codec);
  });

  it('eviction at every step: illegal until it says what happens to packed rows', () => {
    const forbidden = kivi('forbidden');
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(parts.h2o, forbidden);
    }, 'h2o and kivi do not go together: rows leave one by one but are packed in groups');
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(...cake, forbidden);
    }, 'cakekv and kivi do not go together');
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(parts.streamingllm, forbidden);
    }, 'streamingllm and kivi do not go together');
    compose(streamingllm({ budget, trim: 'prompt', positions: 'original' }), forbidden);
    const everyStep = l2compress({ budget, evicts: 'everyStep' });
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(everyStep, forbidden);
    }, 'l2compress and kivi do not go together');
    for (const packed of ['residualOnly', 'wholeGroups', 'reencode'] as const) {
      compose(everyStep, kivi(packed));
      compose(parts.h2o, kivi(packed));
      compose(...cake, kivi(packed));
    }
  });

  it('eviction in later turns: illegal while packed rows stay', () => {
    const forbidden = kivi('forbidden');
    expectIllegal(() => {
      // @ts-expect-error rows leave in later turns too
      compose(snapkv({ budget, turns: 'every' }), forbidden);
    }, 'snapkv and kivi do not go together: rows leave in later turns too');
    expectIllegal(() => {
      // @ts-expect-error rows leave in later turns too
      compose(l2compress({ budget, turns: 'every' }), parts.cakeBudget, forbidden);
    }, 'l2compress and kivi do not go together: rows leave in later turns too');
    expectIllegal(() => {
      // @ts-expect-error rows leave in later turns too
      compose(streamingllm({ budget, trim: 'turn', positions: 'original' }), forbidden);
    }, 'streamingllm and kivi do not go together: rows leave in later turns too');
    compose(snapkv({ budget, turns: 'every' }), kivi('reencode'));
  });

  it('an attention of its own: illegal, it reads plain rows', () => {
    expectIllegal(() => {
      // @ts-expect-error keys used at their place in the cache need an attention of their own
      compose(streamingllm({ budget, trim: 'prompt' }), kivi('forbidden'));
    }, 'streamingllm and kivi do not go together: keys used at their place in the cache need');
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one
      compose(streamingllm({ budget, prefill: 'banded' }), kivi('forbidden'));
    }, 'banded attention reads plain rows only; use prefill: dense');
  });

  it('merging: illegal while values are packed or leave by group, and only into rows that are not packed', () => {
    expectIllegal(() => {
      // @ts-expect-error merging changes stored values
      compose(parts.snapkv, parts.cam, kivi('forbidden'));
    }, 'cam and kivi do not go together: merging changes stored values but these are packed');
    expectIllegal(() => {
      // @ts-expect-error merging changes single values, not groups
      compose(parts.h2o, parts.cam, kivi('wholeGroups'));
    }, 'cam and kivi do not go together: merging changes single stored values');
    // How far it may reach is a number, so the compiler does not know.
    expectIllegal(
      () => compose(parts.h2o, parts.cam, kivi('residualOnly')),
      'cam merges into any row, but kivi keeps only 128 unpacked: set recent to 128',
    );
    expectIllegal(
      () => compose(parts.h2o, cam({ recent: 256 }), kivi('residualOnly')),
      'raise residual to 256',
    );
    compose(parts.h2o, cam({ recent: 128 }), kivi('residualOnly'));
    compose(parts.h2o, parts.cam, kivi('reencode'));
  });
});

describe('KIVI and ThinK as they are', () => {
  const packs = realKivi();
  const prunes = realThink();

  it('go with what evicts at the end of the first prompt, and with each other', () => {
    compose(packs);
    compose(prunes, packs);
    compose(parts.snapkv, packs);
    compose(parts.snapkv, parts.pyramidkv, prunes);
    compose(parts.snapkv, prunes, packs);
    compose(parts.snapkv, parts.cakeBudget, prunes, packs);
    compose(parts.l2compress, prunes, packs);
    compose(h2o({ budget, evicts: 'prefillEnd' }), packs);
    compose(streamingllm({ budget, trim: 'prompt', positions: 'original' }), prunes, packs);
  });

  it('not with what evicts or merges afterwards', () => {
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(parts.h2o, packs);
    }, 'h2o and kivi do not go together: rows leave one by one');
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one but pruned keys lie in groups
      compose(parts.h2o, prunes);
    }, 'h2o and think do not go together: rows leave one by one');
    expectIllegal(() => {
      // @ts-expect-error rows leave one by one
      compose(...cake, prunes);
    }, 'cakekv and think do not go together');
    expectIllegal(() => {
      // @ts-expect-error older rows are packed when a later turn evicts
      compose(snapkv({ budget, turns: 'every' }), packs);
    }, 'snapkv and kivi do not go together: rows leave in later turns too');
    expectIllegal(() => {
      // @ts-expect-error its own attention reads plain rows
      compose(streamingllm({ budget, trim: 'prompt' }), packs);
    }, 'streamingllm and kivi do not go together');
    expectIllegal(() => {
      // @ts-expect-error merging changes stored values
      compose(parts.snapkv, parts.cam, packs);
    }, 'cam and kivi do not go together');
  });
});

describe('what options leave open', () => {
  it('compiles and is checked when it runs', () => {
    const options: Parameters<typeof l2compress>[0] = { budget, evicts: 'everyStep' };
    const wide = l2compress(options);
    expectTypeOf(wide.evicts).toEqualTypeOf<'prefillEnd' | 'everyStep'>();
    expectIllegal(() => compose(wide, kivi('forbidden')), 'l2compress and kivi');
    const either: { readonly positions: 'original' | 'cacheRelative' } = {
      positions: 'cacheRelative',
    };
    expectIllegal(() => compose(streamingllm(either), think), 'streamingllm and think');
  });
});

describe('with channels of keys pruned: legal', () => {
  it('after selection, budgets, eviction while decoding and merging, which leaves keys alone', () => {
    compose(parts.h2o, think);
    compose(parts.l2compress, think);
    compose(parts.snapkv, parts.pyramidkv, think);
    compose(...cake, think);
    compose(parts.h2o, parts.cam, think);
    compose(parts.h2o, parts.pyramidkv, think, kivi('reencode'));
  });

  it('but not one by one where keys are rotated again', () => {
    expectIllegal(() => {
      // @ts-expect-error keys used at their place in the cache are rotated again
      compose(parts.streamingllm, parts.cam, think);
    }, 'streamingllm and think do not go together');
    compose(streamingllm({ budget, positions: 'original' }), parts.cam, think);
  });
});

describe('eviction in place with pages that a fork shares: copied on write', () => {
  const evicting = {
    h2o: [parts.h2o],
    cakekv: cake,
    'h2o+cam': [parts.h2o, parts.cam],
    'cakekv+cam': [...cake, parts.cam],
  } satisfies Record<string, readonly Part[]>;
  it.each(Object.entries(evicting))('%s', async (_, base) => {
    const policy = compose(...(base as Part[]));
    const { tokens: alone } = await run(policy);
    using parent = model.sequence({ policy });
    await parent.append(prompt);
    const draw = async (sequence: typeof parent): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const { id } of sequence.generate({ maxTokens: DECODED, ignoreEos: true })) {
        tokens.push(id);
      }
      return tokens;
    };
    using child = parent.fork();
    // Other tokens than the parent's, so that other rows leave.
    await child.append(prompt.subarray(0, 8));
    await draw(child);
    expect(await draw(parent)).toEqual(alone);
  });
});
