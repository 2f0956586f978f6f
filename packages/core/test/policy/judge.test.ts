import { describe, expect, test } from 'vitest';
import { modelFamilies } from '../../src/models/families.js';
import { findProblems, findWarnings, judge } from '../../src/policy/legality.js';
import { freezePart, type Part } from '../../src/policy/part.js';
import * as parts from './parts.js';

describe('judge', () => {
  test('tells the rule from the parts it is about', () => {
    const { problems } = judge([parts.xattention, parts.h2o, parts.snapkv]);
    expect(problems).toEqual([
      {
        parts: ['h2o', 'snapkv'],
        why: 'two select parts, but a policy has at most one in each slot',
        text: 'two select parts: h2o, snapkv',
      },
      {
        parts: ['h2o', 'xattention'],
        why: 'the one needs columnSums, which the other does not provide',
        text: 'h2o needs columnSums, which xattention does not provide',
      },
    ]);
  });

  test('gives pairs of one rule the same reason', () => {
    const why = (list: readonly Part[]) => judge(list).problems.map((finding) => finding.why);
    expect(why([parts.h2o, parts.kivi])).toEqual(why([parts.streamingllmOriginal, parts.kivi]));
    expect(judge([parts.pyramidkv]).problems[0]).toMatchObject({ parts: ['pyramidkv'] });
    const [a, b] = [parts.pyramidkv, parts.cakekv].map(
      (allocator) => judge([parts.streamingllm, allocator]).warnings[0],
    );
    expect(a?.parts).toEqual(['pyramidkv', 'streamingllm']);
    expect(a?.why).toBe(b?.why);
  });

  test('has no more to say than findProblems and findWarnings', () => {
    const list = [parts.snapkv, parts.h2o, parts.cam, parts.kivi, parts.int8];
    const { problems, warnings } = judge(list);
    expect(problems.map(({ text }) => text)).toEqual(findProblems(list));
    expect(warnings.map(({ text }) => text)).toEqual(findWarnings(list));
    expect(problems.length).toBeGreaterThan(2);
    expect(judge([parts.snapkv])).toEqual({ problems: [], warnings: [] });
  });

  test('says how a merge part without limits fits packed rows', () => {
    const anywhere = freezePart({ ...parts.cam, recent: Infinity } as const);
    expect(judge([parts.h2o, anywhere, parts.kiviResidual]).problems[0]?.text).toBe(
      'cam merges into any row, but kivi keeps only 128 unpacked: set recent to 128',
    );
  });
});

test('families that can be loaded are listed', () => {
  expect(modelFamilies).toContain('llama');
  expect(Object.isFrozen(modelFamilies)).toBe(true);
});
