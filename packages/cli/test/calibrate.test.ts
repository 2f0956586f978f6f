import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { readThresholds, thresholdFromSums, xattentionBlocks } from '@accel/xattention';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mapAttention, blockIndex } from '../src/inspect/attention-map.js';
import { readCalibrationTexts } from '../src/inspect/calibration.js';
import { profileText } from '../src/inspect/profile.js';
import { accel } from './fake-io.js';

let folder: string;
let model: Model;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-calibrate-'));
  model = await loadModel(needlePath);
});
afterAll(async () => {
  model.dispose();
  await rm(folder, { recursive: true, force: true });
});

/** A file whose text begins with so many tokens, at least. */
async function file(name: string, sentences: number): Promise<string> {
  const path = join(folder, name);
  const words = Array.from(
    { length: sentences },
    (_, i) => `The ${name} number ${i} goes to harbour ${(i * 61) % 89}.`,
  );
  await writeFile(path, words.join(' '));
  return path;
}

describe('a profile', () => {
  it('has the true mass, and estimates whose rows sum to 128 / stride', async () => {
    const path = await file('profile.txt', 60);
    const [text] = await readCalibrationTexts(model, [path], 700);
    const piece = text?.pieces[0] ?? new Int32Array();
    expect(piece.length).toBe(700);
    const layers = await profileText(model, piece, xattentionBlocks, 16);
    const dense = await mapAttention(model, piece, undefined);
    expect(layers.length).toBe(model.spec.layers);
    for (const [layer, { sums, mass, heads, rowBlocks, columns }] of layers.entries()) {
      expect([heads, rowBlocks, columns]).toEqual([model.spec.heads, 6, 6]);
      for (let h = 0; h < heads; h++) {
        for (let i = 0; i < rowBlocks; i++) {
          let estimate = 0;
          for (let j = 0; j <= i; j++) {
            const at = (h * rowBlocks + i) * columns + j;
            estimate += sums[at] ?? NaN;
            expect(mass[at]).toBe(dense.layers[layer]?.heads[h]?.mass[blockIndex(i, j)]);
          }
          // The last row block has 60 queries: four reduced rows of 16.
          expect(estimate).toBeCloseTo(i < 5 ? 8 : 4, 3);
        }
      }
    }
  });
});

describe('texts', () => {
  it('are cut into pieces, and a short rest is left out', async () => {
    const path = await file('pieces.txt', 60);
    const all = model.tokenizer.encode(await readFile(path, 'utf8'), { addSpecial: true });
    const lengths = async (tokens: number) =>
      (await readCalibrationTexts(model, [path], tokens))[0]?.pieces.map((piece) => piece.length);
    const half = Math.ceil(all.length / 2);
    expect(await lengths(half)).toEqual([half, all.length - half]);
    expect(await lengths(all.length - 10)).toEqual([all.length - 10]);
    expect(await lengths(5000)).toEqual([all.length]);
  });
});

describe('accel calibrate', () => {
  it('writes the largest threshold of all pieces, and where it comes from', async () => {
    const [one, two] = [await file('one.txt', 50), await file('two.txt', 60)];
    const output = join(folder, 'plan.json');
    const { exitCode, stdout, stderr } = await accel([
      ...['calibrate', 'XAttention', '--text', one, two, '--tokens', '512'],
      ...['--stride', '8', '--coverage', '0.8', '--output', output],
    ]);
    expect(stderr).toContain('Wrote ');
    expect(exitCode).toBe(0);
    const plan = await readThresholds(output, model.spec);
    expect(plan.stride).toBe(8);
    expect(plan.coverage).toBe(0.8);

    const texts = await readCalibrationTexts(model, [one, two], 512);
    const pieces = texts.flatMap((text) => text.pieces);
    expect(pieces.length).toBeGreaterThanOrEqual(3);
    const profiles = [];
    for (const piece of pieces) profiles.push(await profileText(model, piece, xattentionBlocks, 8));
    for (const [layer, row] of plan.thresholds.entries()) {
      for (const [h, threshold] of row.entries()) {
        const wanted = profiles.map((profile) => {
          const sums = profile[layer];
          return sums === undefined
            ? NaN
            : (thresholdFromSums({ ...sums, coverage: 0.8 })[h] ?? NaN);
        });
        const most = Math.max(...wanted);
        expect(threshold).toBeGreaterThanOrEqual(Math.min(1, most));
        expect(threshold).toBeLessThan(most + 1e-4);
      }
    }
    for (const path of [one, two]) {
      const hash = createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
      expect(plan.provenance).toContain(`sha256 ${hash}`);
    }
    expect(plan.provenance).toMatch(/of up to 512 tokens of one\.txt \(\d+ tokens/);
    expect(plan.provenance).toMatch(/@accel\/xattention \d+\.\d+\.\d+/);
    const lines = stdout.trim().split('\n').slice(2);
    expect(lines.length).toBe(model.spec.layers);
    for (const [layer, line] of lines.entries()) {
      const row = plan.thresholds[layer] ?? [];
      const mean = row.reduce((a, b) => a + b, 0) / row.length;
      const numbers = [Math.min(...row), mean, Math.max(...row)];
      expect(line.trim().split(/ +/)).toEqual([
        String(layer),
        ...numbers.map((number) => number.toFixed(4)),
      ]);
    }
  });

  it.each([
    [['snapkv'], 2, /SnapKV has nothing to calibrate/],
    [['xatention'], 1, /no method called "xatention"/],
    [['xattention', '--stride', '5'], 2, /--stride must be 4, 8, 16, 32, 64, not "5"/],
    [['xattention', '--coverage', '1.5'], 2, /--coverage must be a number from 0.01 to 1/],
    [['xattention', '--tokens', '100'], 2, /--tokens must be a whole number of at least 256/],
  ])('%j is refused', async (words, code, message) => {
    const { exitCode, stderr } = await accel([
      ...['calibrate', ...words, '--text', 'none.txt', '--output', join(folder, 'no.json')],
    ]);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(code);
  });

  it('says what is missing before it works', async () => {
    const short = await file('short.txt', 2);
    const run = (...words: string[]) => accel(['calibrate', 'xattention', ...words]);
    const plan = join(folder, 'no.json');
    expect((await run('--output', plan)).stderr).toMatch(/required option '--text/);
    expect((await run('--text', short)).stderr).toMatch(/required option '--output/);
    expect((await run('--text', short, '--output', plan)).stderr).toMatch(
      /short\.txt has \d+ tokens\. There is nothing to choose below 256/,
    );
    expect((await run('--text', '/none', '--output', plan)).stderr).toMatch(/ERR_ACCEL_FILE.*none/);
    expect((await run('--text', short, '--output', '/none/x.json')).stderr).toMatch(
      /ERR_ACCEL_FILE.*Check --output/,
    );
  });
});
