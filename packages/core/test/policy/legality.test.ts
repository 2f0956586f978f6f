import { describe, expect, expectTypeOf, test } from 'vitest';
import type { Problem } from '../../src/policy/check.js';
import { compose, full, type Policy } from '../../src/policy/compose.js';
import { legality } from '../../src/policy/legality.js';
import type { Part } from '../../src/policy/part.js';
import type { SelectPart } from '../../src/policy/select.js';
import { expectFailure } from '../shared.js';
import {
  cakekv,
  cam,
  codec,
  flexprefill,
  h2o,
  h2oApproximate,
  int8,
  kivi,
  kiviGroups,
  kiviReencode,
  kiviResidual,
  l2compress,
  pyramidkv,
  snapkv,
  snapkvEvery,
  streamingllm,
  streamingllmBanded,
  streamingllmBandedOnce,
  streamingllmOnce,
  streamingllmOriginal,
  thinkFree,
  thinkPairs,
  thinkStays,
  xattention,
} from './parts.js';

/** The run-time half of a row; the `@ts-expect-error` inside the callback is the other half. */
function expectIllegal(action: () => unknown, words: string): Promise<void> {
  return expectFailure(action, 'ERR_ACCEL_POLICY', words);
}

function ids(policy: Policy): string[] {
  return policy.parts.map(({ id }) => id);
}

describe('legal compositions', () => {
  test('nothing at all', () => {
    expect(compose().parts).toEqual([]);
    expect(full.parts).toEqual([]);
    expect(full.toJSON()).toEqual({ version: 1, parts: [] });
  });

  test('window selectors and allocators with a sparse prefill', () => {
    expect(ids(compose(flexprefill, snapkv))).toEqual(['flexprefill', 'snapkv']);
    expect(ids(compose(xattention, snapkv, pyramidkv))).toEqual([
      'xattention',
      'snapkv',
      'pyramidkv',
    ]);
    expect(ids(compose(xattention, cakekv, snapkv))).toHaveLength(3);
  });

  test('selectors without a signal with a sparse prefill', () => {
    compose(flexprefill, l2compress);
    compose(xattention, streamingllm);
  });

  test('column sums with a sparse prefill, on request', () => {
    const policy = compose(flexprefill, h2oApproximate);
    expectTypeOf<Problem<[typeof flexprefill, typeof h2oApproximate]>>().toBeNever();
    expect(policy.parts[1].lossy).toBe('approximateSignal');
  });

  test('eviction at the end of the prompt, channel pruning and a codec', () => {
    compose(snapkv, kivi);
    compose(snapkv, pyramidkv, thinkFree, kivi);
    compose(thinkFree, kivi);
    compose(thinkFree, snapkv);
    compose(h2o, thinkFree);
    compose(snapkv, pyramidkv, thinkStays, kivi);
  });

  test('eviction at every step with a codec that says what happens to packed rows', () => {
    compose(h2o, kiviReencode);
    compose(streamingllm, kiviGroups);
    compose(streamingllm, kiviResidual);
    compose(h2o, cam, kiviReencode);
    compose(streamingllm, cam, kiviResidual);
  });

  test('re-rotated keys with channels pruned in pairs', () => {
    compose(streamingllm, thinkPairs);
    compose(streamingllmOriginal, thinkFree);
  });

  test('keep the type of every part', () => {
    const policy = compose(snapkv, kivi);
    expectTypeOf(policy.parts[0].id).toEqualTypeOf<'snapkv'>();
    expectTypeOf(policy.parts[1].packedRows).toEqualTypeOf<'forbidden'>();
    expectTypeOf(policy).toExtend<Policy>();
  });

  test('pointless ones warn', () => {
    expect(compose(snapkv, pyramidkv).warnings).toEqual([]);
    expect(compose(streamingllm, pyramidkv).warnings[0]).toContain('pyramidkv with streamingllm');
    expect(compose(snapkv, cam).warnings[0]).toContain('cam with snapkv');
  });
});

describe('illegal compositions fail in tsc and at run time', () => {
  test('two allocators', async () => {
    expectTypeOf<
      Problem<[typeof pyramidkv, typeof snapkv, typeof cakekv]>
    >().toEqualTypeOf<'two budget parts: pyramidkv, cakekv'>();
    await expectIllegal(() => {
      // @ts-expect-error two budget parts
      compose(pyramidkv, snapkv, cakekv);
    }, 'two budget parts: pyramidkv, cakekv');
  });

  test('two codecs', async () => {
    expectTypeOf<
      Problem<[typeof kivi, typeof int8]>
    >().toEqualTypeOf<'two codec parts: kivi, int8'>();
    await expectIllegal(() => {
      // @ts-expect-error two codec parts
      compose(kivi, int8);
    }, 'two codec parts: kivi, int8');
  });

  test('two selectors', async () => {
    await expectIllegal(() => {
      // @ts-expect-error two select parts
      compose(snapkv, h2o);
    }, 'two select parts: snapkv, h2o');
  });

  test('two prefill parts', async () => {
    await expectIllegal(() => {
      // @ts-expect-error two prefill parts
      compose(flexprefill, snapkv, xattention);
    }, 'two prefill parts: flexprefill, xattention');
  });

  test('two channel pruners, two mergers', async () => {
    await expectIllegal(() => {
      // @ts-expect-error two channels parts
      compose(thinkFree, thinkPairs);
    }, 'two channels parts: think, think');
    await expectIllegal(() => {
      // @ts-expect-error two merge parts
      compose(h2o, cam, cam);
    }, 'two merge parts: cam, cam');
  });

  test('column sums with a sparse prefill', async () => {
    expectTypeOf<
      Problem<[typeof xattention, typeof h2o]>
    >().toEqualTypeOf<'h2o needs columnSums, which xattention does not provide'>();
    await expectIllegal(() => {
      // @ts-expect-error h2o needs columnSums
      compose(xattention, h2o);
    }, 'h2o needs columnSums, which xattention does not provide');
    await expectIllegal(() => {
      // @ts-expect-error h2o needs columnSums, in any order
      compose(h2o, flexprefill);
    }, 'h2o needs columnSums');
    await expectIllegal(() => {
      // @ts-expect-error cam needs columnSums
      compose(flexprefill, snapkv, cam);
    }, 'cam needs columnSums, which flexprefill does not provide');
  });

  test('eviction at every step with groups that nothing may leave', async () => {
    await expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(h2o, kivi);
    }, 'h2o and kivi do not go together');
    await expectIllegal(() => {
      // @ts-expect-error rows leave one by one but are packed in groups
      compose(streamingllm, kivi);
    }, 'streamingllm and kivi do not go together');
  });

  test('merging with packed values', async () => {
    await expectIllegal(() => {
      // @ts-expect-error merging changes stored values
      compose(snapkv, cam, kivi);
    }, 'cam and kivi do not go together');
    await expectIllegal(() => {
      // @ts-expect-error merging changes single values, not groups
      compose(h2o, cam, kiviGroups);
    }, 'cam and kivi do not go together');
  });

  test('eviction in later turns with rows that stay once they are packed or pruned', async () => {
    await expectIllegal(() => {
      // @ts-expect-error rows leave in later turns too
      compose(snapkvEvery, kivi);
    }, 'snapkv and kivi do not go together: rows leave in later turns too, when older ones are packed');
    await expectIllegal(() => {
      // @ts-expect-error rows leave in later turns too
      compose(snapkvEvery, thinkStays);
    }, 'snapkv and think do not go together: rows leave in later turns too, when older ones are pruned');
    compose(snapkvEvery, kiviReencode);
    compose(snapkvEvery, thinkPairs);
  });

  test('an attention of its own with rows that it cannot read', async () => {
    const place = 'keys used at their place in the cache need an attention of their own';
    await expectIllegal(() => {
      // @ts-expect-error an attention of its own reads plain rows only
      compose(streamingllmOnce, kivi);
    }, `streamingllm and kivi do not go together: ${place}`);
    await expectIllegal(() => {
      // @ts-expect-error an attention of its own reads plain rows only
      compose(streamingllmOnce, thinkStays);
    }, `streamingllm and think do not go together: ${place}`);
    await expectIllegal(() => {
      // @ts-expect-error banded attention reads plain rows only
      compose(streamingllmBandedOnce, kivi);
    }, 'streamingllm and kivi do not go together: banded attention reads plain rows only');
    await expectIllegal(() => {
      // @ts-expect-error banded attention reads plain rows only
      compose(streamingllmBandedOnce, thinkStays);
    }, 'streamingllm and think do not go together: banded attention reads plain rows only');
  });

  test('eviction or merging at every step with channels pruned of keys that stay', async () => {
    await expectIllegal(() => {
      // @ts-expect-error rows leave one by one, but keys that have lost channels stay
      compose(h2o, thinkStays);
    }, 'h2o and think do not go together: rows leave one by one');
    await expectIllegal(() => {
      // @ts-expect-error merging while decoding goes by attention that is not counted
      compose(snapkv, cam, thinkStays);
    }, 'cam and think do not go together: merging while decoding');
  });

  test('two attentions of the prompt', async () => {
    await expectIllegal(() => {
      // @ts-expect-error each computes the attention of the prompt in its own way
      compose(flexprefill, streamingllmBanded);
    }, 'flexprefill and streamingllm do not go together: each computes the attention');
  });

  test('merging after a banded prompt', async () => {
    await expectIllegal(() => {
      // @ts-expect-error a banded prompt gives no attention for merging to go by
      compose(streamingllmBanded, cam);
    }, 'cam and streamingllm do not go together: a banded prompt');
  });

  test('re-rotated keys with channels pruned one by one', async () => {
    await expectIllegal(() => {
      // @ts-expect-error needs both channels of each pair
      compose(streamingllm, thinkFree);
    }, 'streamingllm and think do not go together');
  });

  test('parts that do nothing alone', async () => {
    expectTypeOf<
      Problem<[typeof pyramidkv]>
    >().toEqualTypeOf<'pyramidkv needs a select part: a budget is used by a select part'>();
    await expectIllegal(() => {
      // @ts-expect-error a budget is used by a select part
      compose(pyramidkv);
    }, 'pyramidkv needs a select part');
    await expectIllegal(() => {
      // @ts-expect-error a merge part folds in what a select part evicts
      compose(cam);
    }, 'cam needs a select part');
  });

  test('merge targets that may be packed already: numbers, so at run time only', async () => {
    await expectIllegal(
      () => compose(h2o, cam, codec('kivi', 'residualOnly', 32)),
      'raise residual to 64',
    );
  });

  test('every reason is named at once', async () => {
    const parts: Part[] = [xattention, h2o, kivi, int8];
    await expectIllegal(() => compose(...parts), 'two codec parts');
    await expectIllegal(() => compose(...parts), 'h2o needs columnSums');
    await expectIllegal(() => compose(...parts), 'do not go together');
  });
});

test('what the types leave open is caught at run time', async () => {
  const wide: SelectPart = streamingllm;
  await expectIllegal(() => compose(wide, thinkFree), 'streamingllm and think');
  const list: Part[] = [snapkv, h2o];
  await expectIllegal(() => compose(...list), 'two select parts');
});

test('every row of the table is reached by a test above', () => {
  // A new row changes these numbers and should come with its tests.
  expect(legality.companions).toHaveLength(2);
  expect(legality.pairs).toHaveLength(14);
  expect(legality.warnings).toHaveLength(2);
});

test('a policy and its parts are frozen', () => {
  const policy = compose(snapkv, pyramidkv);
  expect(Object.isFrozen(policy)).toBe(true);
  expect(Object.isFrozen(policy.parts)).toBe(true);
  expect(Object.isFrozen(policy.parts[1].options)).toBe(true);
  expect(JSON.stringify(policy)).toBe(JSON.stringify(policy.toJSON()));
});
