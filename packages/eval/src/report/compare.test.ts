import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MODES } from '../prompt/modes.js';
import { MersenneTwister } from '../random/mersenne-twister.js';
import { fakeRun } from '../testing/fake-run.js';
import { compare } from './compare.js';
import { formatComparison } from './compare-table.js';
import { exactP, holm, sampledP, testPaired } from './paired.js';

function seeded(seed: number): MersenneTwister {
  const random = new MersenneTwister();
  random.seedWord(seed);
  return random;
}

describe('the permutation test', () => {
  it('gives what can be counted by hand', () => {
    // Only all signs as they are, or all flipped, reach the sum: 2 of 8.
    expect(exactP([1, 1, 1])).toBe(0.25);
    // Sums of ±1 ±2 ±3 of at least 4 in size: ±6, ±4.
    expect(exactP([-1, 2, 3])).toBe(0.5);
    expect(exactP([1, -1])).toBe(1);
    expect(testPaired([[0, 0, 0]])).toMatchObject({ difference: 0, p: 1, ci95: [0, 0] });
    expect(testPaired([[5, 5, 5, 5, 5, 5]]).p).toBe(2 / 64);
    expect(testPaired([]).difference).toBeNaN();
  });

  it('is fair: under exchangeable results, p is at most α with probability α at every attained α', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 7 }),
        (sizes) => {
          const patterns = 2 ** sizes.length;
          const all = Array.from({ length: patterns }, (_, pattern) =>
            exactP(sizes.map((size, i) => ((pattern >>> i) & 1 ? size : -size))),
          );
          for (const p of all) {
            expect(all.filter((other) => other <= p + 1e-12).length / patterns).toBeCloseTo(p, 12);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it('agrees with itself when patterns are drawn', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -20, max: 20 }), { minLength: 4, maxLength: 10 }),
        fc.nat(),
        (differences, seed) => {
          const drawn = sampledP(differences, 4000, seeded(seed));
          // Five standard errors of a share of 4000 draws.
          expect(Math.abs(drawn - exactP(differences))).toBeLessThan(5 * Math.sqrt(0.25 / 4000));
        },
      ),
      { numRuns: 20 },
    );
    const many = Array.from({ length: 60 }, (_, i) => (i % 3) - 0.5);
    expect(testPaired([many])).toMatchObject({ exact: false });
    expect(testPaired([many])).toEqual(testPaired([many]));
  });

  it('counts strata alike', () => {
    const result = testPaired([
      [10, 10, 10, 10],
      [-10, -10],
    ]);
    expect(result).toMatchObject({ difference: 0, p: 1 });
    expect(testPaired([[10, 10], [4]])).toMatchObject({ difference: 7, ci95: null });
  });

  it('has intervals as wide as theory says', () => {
    const random = seeded(1);
    const differences = Array.from({ length: 400 }, () => 10 * (random.next() / 2 ** 32) - 4);
    const { difference, ci95 } = testPaired([differences]);
    // Uniform over a width of 10: standard deviation 10/√12.
    const margin = (1.96 * 10) / Math.sqrt(12 * 400);
    expect((ci95?.[1] ?? NaN) - difference).toBeCloseTo(margin, 1);
    expect(difference - (ci95?.[0] ?? NaN)).toBeCloseTo(margin, 1);
  });

  it('is corrected as Holm does', () => {
    expect(holm([0.01, 0.04, 0.03, 0.005])).toEqual([0.03, 0.06, 0.06, 0.02]);
    expect(holm([0.9, 0.8])).toEqual([1, 1]);
    expect(holm([])).toEqual([]);
  });
});

describe('a comparison', () => {
  const run = fakeRun({
    methods: ['full', 'SnapKV'],
    tasks: ['a', 'b'],
    lengths: [1024],
    samples: 3,
    edit: (record) => ({
      ...record,
      score: record.method === 'SnapKV' && record.task === 'a' ? 100 - 50 * record.sample : 100,
      prediction: record.method === 'SnapKV' && record.sample === 2 ? 'else' : 'same',
    }),
  });
  const full = { run, method: 'full' };
  const snapkv = { run, method: 'SnapKV' };

  it('pairs samples', () => {
    const [comparison] = compare(full, snapkv);
    expect(comparison?.overall).toMatchObject({
      pairs: 6,
      baseline: 100,
      other: 75,
      difference: -25,
      wins: 0,
      ties: 4,
      losses: 2,
      p: 0.5,
      exact: true,
    });
    expect(
      comparison?.tasks.map(({ task, difference, p, holm: corrected }) => [
        task,
        difference,
        p,
        corrected,
      ]),
    ).toEqual([
      ['a', -50, 0.5, 1],
      ['b', 0, 1, 1],
    ]);
    expect(comparison?.lengths).toHaveLength(1);
    expect(comparison?.differing).toEqual([
      'a_1024/2/query-aware/SnapKV',
      'b_1024/2/query-aware/SnapKV',
    ]);
  });

  it('is a table', () => {
    expect(compare(full, snapkv).map(formatComparison).join('\n')).toMatchInlineSnapshot(`
      "SnapKV against full, query-aware

      Pairs of  n  Baseline   Other  Difference            95 % CI      p  p (Holm)  Won/tied/lost
      ────────  ─  ────────  ──────  ──────────  ─────────────────  ─────  ────────  ─────────────
      a         3    100.00   50.00      −50.00  −111.24 to +11.24  0.500     1.000          0/1/2
      b         3    100.00  100.00        0.00       0.00 to 0.00  1.000     1.000          0/3/0
      all       6    100.00   75.00      −25.00    −55.62 to +5.62  0.500         -          0/4/2

      Difference: other minus baseline; higher is better. CI: paired bootstrap, too narrow below some ten pairs a task; -: a task has one pair.
      p: sign-flip permutation test, two-sided, all patterns of signs.
      Other answers than the baseline's: 2 of 6: a_1024/2/query-aware/SnapKV, b_1024/2/query-aware/SnapKV."
    `);
  });

  it('is antisymmetric', () => {
    const [there] = compare(full, snapkv);
    const [back] = compare(snapkv, full);
    expect(back?.overall.difference).toBe(-(there?.overall.difference ?? NaN));
    expect(back?.overall.p).toBe(there?.overall.p);
    expect([back?.overall.wins, back?.overall.losses]).toEqual([2, 0]);
  });

  it('has one part a mode, leaves out what has no partner, and knows when less is better', () => {
    const baseline = fakeRun({ name: 'x', modes: MODES, benchmark: 'NLL', tasks: ['text'] });
    const other = fakeRun({
      name: 'y',
      modes: MODES.slice(1),
      benchmark: 'NLL',
      tasks: ['text'],
      edit: (record) =>
        record.sample === 0 ? undefined : { ...record, score: 1, nll: 64, references: [] },
    });
    const comparisons = compare({ run: baseline, method: 'full' }, { run: other, method: 'full' });
    expect(comparisons.map(({ mode }) => mode)).toEqual(['query-agnostic', 'second-turn']);
    for (const { overall, unpaired, differing } of comparisons) {
      expect(overall).toMatchObject({ pairs: 6, wins: 6, losses: 0 });
      expect(unpaired).toBe(2);
      expect(differing).toEqual([]);
    }
  });

  it('refuses other samples', () => {
    const method = 'full';
    const at = (options: Parameters<typeof fakeRun>[0]) => ({ run: fakeRun(options), method });
    expect(() => compare(at({ name: 'x' }), at({ name: 'y', seed: 7 }))).toThrow(
      /x and y do not have the same samples: seed is 42 and 7; seed of samples is 42 and 7/,
    );
    expect(() => compare(at({ name: 'x' }), at({ name: 'y', benchmark: 'NIAH' }))).toThrow(
      /benchmark is "RULER" and "NIAH"/,
    );
    expect(() =>
      compare(
        at({ name: 'x' }),
        at({ name: 'y', edit: (record) => ({ ...record, references: ['other'] }) }),
      ),
    ).toThrow(/the references of niah_single_1_1024\/0\/query-aware\/full are \["other"\]/);
    expect(() => compare(at({ lengths: [1024] }), at({ lengths: [4096] }))).toThrow(
      /no sample in common/,
    );
    expect(() => compare(full, { run, method: 'snapkv' })).toThrow(
      /The run fake has no method snapkv\. It has full, SnapKV\./,
    );
  });
});
