import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { BLOCK, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blockIndex, mapAttention, type AttentionMap } from '../src/inspect/attention-map.js';
import { renderPage } from '../src/inspect/page.js';
import { viewerScript } from '../src/inspect/viewer.js';
import { accel } from './fake-io.js';
import { fixedBlocks, isChosen, type SeenCall } from './fixed-blocks.js';

/** Three chunks of the embedded model on the CPU: 512, 512 and 226 tokens. */
const TOKENS = 1250;
const BLOCKS = 10;
const DENSE_ROWS = 512;

let folder: string;
let model: Model;
let map: AttentionMap;
const calls: SeenCall[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-inspect-'));
  model = await loadModel(needlePath);
  const tokens = model.tokenizer.encode(text(TOKENS)).slice(0, TOKENS);
  map = await mapAttention(model, tokens, fixedBlocks(DENSE_ROWS, model.spec.kvHeads, calls));
});
afterAll(async () => {
  for (const { q, k } of calls) for (const tensor of [q, k]) tensor.dispose();
  model.dispose();
  await rm(folder, { recursive: true, force: true });
});

/** Words enough for so many tokens, no two sentences alike. */
function text(tokens: number): string {
  return Array.from(
    { length: tokens },
    (_, i) => `Ship ${i} sails at ${(i * 37) % 97} to port ${(i * 61) % 89}.`,
  )
    .join(' ')
    .slice(0, tokens * 4);
}

/** Mass of the blocks of one head's rows in a call, `[row block][column]`, in double precision. */
async function massOf(call: SeenCall, h: number): Promise<number[][]> {
  const { first, m, scale } = call;
  const [, heads = 0, dim = 0] = call.q.shape;
  const rows = first + m;
  const q = (await call.q.read(model.stream)) as Float32Array;
  const k = (await call.k.read(model.stream)) as Float32Array;
  const kvHead = Math.floor((h * model.spec.kvHeads) / heads);
  const mass = Array.from({ length: Math.ceil(m / BLOCK) }, () =>
    new Array<number>(Math.ceil(rows / BLOCK)).fill(0),
  );
  for (let t = 0; t < m; t++) {
    const logits = Array.from({ length: first + t + 1 }, (_, s) => {
      let dot = 0;
      for (let c = 0; c < dim; c++) {
        dot += (q[(t * heads + h) * dim + c] ?? 0) * (k[(kvHead * rows + s) * dim + c] ?? 0);
      }
      return dot * scale;
    });
    const most = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    const i = Math.floor(t / BLOCK);
    const count = Math.min(BLOCK, m - i * BLOCK);
    for (const [s, weight] of weights.entries()) {
      const row = mass[i];
      const j = Math.floor(s / BLOCK);
      if (row !== undefined) row[j] = (row[j] ?? 0) + weight / sum / count;
    }
  }
  return mass;
}

describe('a map of attention', () => {
  it('covers all layers, heads and row blocks', () => {
    expect(map.layers.length).toBe(model.spec.layers);
    for (const layer of map.layers) {
      expect(layer.heads.length).toBe(model.spec.heads);
      expect(layer.spans).toEqual([
        { first: 0, end: 4, state: 'dense', reason: 'at most 512 rows' },
        { first: 4, end: BLOCKS, state: 'chosen' },
      ]);
      for (const head of layer.heads) {
        expect(head.mass.length).toBe((BLOCKS * (BLOCKS + 1)) / 2);
        for (let i = 0; i < BLOCKS; i++) {
          const row = head.mass.subarray(blockIndex(i, 0), blockIndex(i, i) + 1);
          expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 3);
        }
      }
    }
  });

  it.each([
    [0, 1],
    [7, 3],
  ])('has the mass of layer %i, head %i as computed directly', async (layer, h) => {
    const head = map.layers[layer]?.heads[h];
    const own = calls.filter((call) => call.layer === layer);
    expect(own.map(({ first, m }) => [first, m])).toEqual([
      [0, 512],
      [512, 512],
      [1024, 226],
    ]);
    for (const call of own) {
      for (const [row, columns] of (await massOf(call, h)).entries()) {
        const i = call.first / BLOCK + row;
        for (let j = 0; j <= i; j++) {
          // The cache is bfloat16, and so are the probabilities of the attention that gives the lse.
          expect(
            Math.abs((head?.mass[blockIndex(i, j)] ?? NaN) - (columns[j] ?? NaN)),
          ).toBeLessThan(1e-3);
        }
      }
    }
  });

  it('has the blocks that the method chose, and figures that follow from them', () => {
    for (const { heads } of map.layers) {
      for (const [h, { mass, computed, chosen }] of heads.entries()) {
        let [taken, causal] = [0, 0];
        const recalls: number[] = [];
        for (let i = 0; i < BLOCKS; i++) {
          let recall = 0;
          for (let j = 0; j <= i; j++) {
            const want = i < 4 || isChosen(h, i, j);
            expect(computed[blockIndex(i, j)], `head ${h}, block ${i}, ${j}`).toBe(Number(want));
            if (i < 4) continue;
            causal += 1;
            if (!want) continue;
            taken += 1;
            recall += mass[blockIndex(i, j)] ?? NaN;
          }
          if (i >= 4) recalls.push(recall);
        }
        expect(chosen?.density).toBe(taken / causal);
        expect(chosen?.told[0]).toBeCloseTo(0.5 + h / 100, 6);
        expect(chosen?.told[1]).toBeCloseTo(h + 1, 6);
        const mean = recalls.reduce((a, b) => a + b, 0) / recalls.length;
        expect(chosen?.recall.mean).toBeCloseTo(mean, 9);
        expect(chosen?.recall.min).toBe(Math.min(...recalls));
        expect(chosen?.recall.minRow).toBe(4 + recalls.indexOf(Math.min(...recalls)));
      }
    }
  });

  it('of dense attention has no blocks that were chosen', async () => {
    const dense = await mapAttention(model, new Int32Array(300).fill(7), undefined);
    expect(dense.layers[3]?.spans).toEqual([
      { first: 0, end: 3, state: 'dense', reason: 'no method was chosen' },
    ]);
    expect(dense.layers[3]?.heads[0]?.chosen).toBeUndefined();
    expect(dense.layers[3]?.heads[0]?.computed.every((one) => one === 1)).toBe(true);
  });

  it('says which rows were not looked at', async () => {
    const short = await mapAttention(model, new Int32Array(530).fill(7), undefined);
    expect(short.layers[0]?.spans.at(-1)).toEqual({
      first: 4,
      end: 5,
      state: 'unseen',
      reason: 'fewer than 128 queries in one call',
    });
    expect(short.layers[0]?.heads[0]?.mass[blockIndex(4, 0)]).toBeNaN();
  });
});

const facts = {
  model: 'a <model>',
  method: 'Fixed',
  options: '{"denseRows":512}',
  dtype: 'bfloat16',
  device: 'a machine',
  text: 'a text',
  version: '0.0.0',
  date: '2026-11-27',
};

describe('the page', () => {
  it('loads nothing', () => {
    const page = renderPage(map, facts);
    expectSelfContained(page);
    expect(page).toContain('a &lt;model&gt;');
    expect(page).not.toContain('a <model>');
  });

  it('has every layer and head, with their numbers', () => {
    const page = renderPage(map, facts);
    for (const [layer, { heads }] of map.layers.entries()) {
      for (const [h, { chosen }] of heads.entries()) {
        const figure = page.split(`<figure id="head-${layer}-${h}">`)[1]?.split('</figure>')[0];
        const numbers = [chosen?.density, chosen?.told[0], chosen?.recall.mean, chosen?.recall.min];
        for (const number of numbers)
          expect(figure).toContain(`<b>${(100 * (number ?? 0)).toFixed(1)} %</b>`);
        expect(figure).toContain(`in row block ${chosen?.recall.minRow}; width ${h + 1}`);
        expect(figure?.match(/<canvas/g)?.length).toBe(2);
        expect(page).toContain(`href="#head-${layer}-${h}"`);
      }
    }
    expect(page.match(/Row blocks 0 to 3 attended densely: at most 512 rows\./g)?.length).toBe(8);
  });

  it('has a script that reads back what was put in', () => {
    const viewer = runViewer(renderPage(map, facts));
    for (const [layer, { heads }] of map.layers.entries()) {
      for (const [h, head] of heads.entries()) {
        const data = viewer.headOf(layer, h);
        for (let i = 0; i < BLOCKS; i++) {
          for (let j = 0; j <= i; j++) {
            const mass = head.mass[blockIndex(i, j)] ?? NaN;
            const shown = viewer.massAt(data, i, j);
            expect(Math.abs(shown - mass)).toBeLessThanOrEqual(mass < 1e-9 ? 1e-9 : 4e-4 * mass);
            expect(viewer.computedAt(data, i, j)).toBe(head.computed[blockIndex(i, j)] === 1);
          }
        }
      }
    }
    const canvas = (kind: 'mask' | 'mass') => canvasOf(2, 1, kind);
    expect(viewer.describe(canvas('mass'), 9, 4)).toMatch(
      /^layer 2, head 1: queries 1152–1249 \(block 9\), keys 512–639 \(block 4\) — .* of the attention, left out$/,
    );
    expect(viewer.describe(canvas('mass'), 9, 8)).toMatch(/ of the attention, computed$/);
    expect(viewer.describe(canvas('mask'), 1, 0)).toMatch(/computed, all are: at most 512 rows$/);
    expect(viewer.describe(canvas('mask'), 1, 2)).toMatch(/in the future$/);
  });
});

describe('the pictures', () => {
  const pixel = ({ image }: Canvas, i: number, j: number): number[] => {
    const at = 4 * (i * BLOCKS + j);
    return [...(image?.data.subarray(at, at + 4) ?? [])];
  };

  it('of masks tell computed, left out and dense blocks apart', () => {
    const viewer = runViewer(renderPage(map, facts));
    const canvas = canvasOf(3, 1, 'mask');
    viewer.draw(canvas);
    for (let i = 0; i < BLOCKS; i++) {
      for (let j = 0; j < BLOCKS; j++) {
        const colour = i < 4 ? [4, 5, 6, 255] : isChosen(1, i, j) ? [1, 2, 3, 255] : [7, 8, 9, 255];
        expect(pixel(canvas, i, j)).toEqual(j > i ? [0, 0, 0, 0] : colour);
      }
    }
  });

  it('of mass are on a logarithmic scale from one in a million to all of it', () => {
    const [layer] = map.layers;
    const [head] = layer?.heads ?? [];
    if (layer === undefined || head === undefined) throw new Error('there is a head');
    const mass = head.mass.slice();
    for (const [j, value] of [1, 1e-2, 1e-4, 1e-6, 1e-8, 0, NaN].entries())
      mass[blockIndex(9, j)] = value;
    const spans = [{ first: 0, end: BLOCKS, state: 'chosen' as const }];
    const changed = { ...map, layers: [{ spans, heads: [{ ...head, mass }] }] };
    const viewer = runViewer(renderPage(changed, facts));
    const canvas = canvasOf(0, 0, 'mass');
    viewer.draw(canvas);
    expect(pixel(canvas, 9, 0)).toEqual([253, 231, 37, 255]); // viridis' brightest
    expect(pixel(canvas, 9, 3)).toEqual([68, 1, 84, 255]); // and its darkest
    expect(pixel(canvas, 9, 4)).toEqual([68, 1, 84, 255]);
    expect(pixel(canvas, 9, 5)).toEqual([68, 1, 84, 255]);
    // Two thirds and one third of the way: luminance falls in even steps.
    const light = [0, 1, 2, 3].map((j) => pixel(canvas, 9, j)[1] ?? NaN);
    expect(light[1]).toBeGreaterThan(150);
    expect(light[2]).toBeGreaterThan(80);
    expect(light[2]).toBeLessThan(light[1] ?? NaN);
  });
});

describe('accel inspect', () => {
  it('--attention writes a page and prints a line for each layer', async () => {
    const output = join(folder, 'attention.html');
    const { exitCode, stdout, stderr } = await accel([
      ...['inspect', '--attention', '--tokens', '1024', '--output', output],
    ]);
    expect(stderr).toContain('Wrote ');
    expect(exitCode).toBe(0);
    expect(stdout.trim().split('\n').length).toBe(2 + model.spec.layers);
    const page = await readFile(output, 'utf8');
    expectSelfContained(page);
    expect(page.match(/<figure id="head-\d+-\d+">/g)?.length).toBe(
      model.spec.layers * model.spec.heads,
    );
    expect(page).toContain('niah_single_2, made up, 1024 tokens, 8 × 8 blocks');
  });

  it('says why a method left everything dense', async () => {
    const [config, output] = [join(folder, 'x.yaml'), join(folder, 'dense.html')];
    await writeFile(config, 'dense: 4096\n');
    const { exitCode, stdout, stderr } = await accel([
      ...['inspect', '--attention', '--acceleration', 'XAttention', '--tokens', '640'],
      ...['--config', `xattention=${config}`, '--output', output],
    ]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^ +0 +100\.0 +- +100\.0 +100\.0 +5 of 5$/m);
    expect(stderr).toMatch(/XAttention chose no blocks: .*4096.*lower limit \(XAttention: dense;/);
    expect(await readFile(output, 'utf8')).toContain('Dense: all blocks were computed.');
  });

  it('shows what a method chooses', async () => {
    const [config, output] = [join(folder, 'y.yaml'), join(folder, 'sparse.html')];
    await writeFile(config, 'dense: 0\nstride: 8\n');
    const { exitCode, stdout } = await accel([
      ...['inspect', '--attention', '--acceleration', 'XAttention', '--tokens', '1024'],
      ...['--config', `xattention=${config}`, '--output', output],
    ]);
    expect(exitCode).toBe(0);
    const page = await readFile(output, 'utf8');
    expectSelfContained(page);
    expect(page).toContain('&quot;stride&quot;:8');
    for (const line of stdout.trim().split('\n').slice(2)) {
      const [, density, told, recall, least, dense] = line.trim().split(/ {2,}/);
      expect(Number(density)).toBeLessThan(100);
      expect(Number(told)).toBeGreaterThanOrEqual(90); // what it was told to reach
      expect(Number(recall)).toBeGreaterThan(80);
      expect(Number(least)).toBeLessThanOrEqual(Number(recall));
      expect(dense).toMatch(/^0 of \d+$/);
    }
  });

  it('reads a file and cuts it', async () => {
    const [file, output] = [join(folder, 'text.txt'), join(folder, 'file.html')];
    await writeFile(file, text(900));
    const { exitCode } = await accel([
      ...['inspect', '--attention', '--prompt_file', file, '--tokens', '256', '--output', output],
    ]);
    expect(exitCode).toBe(0);
    expect(await readFile(output, 'utf8')).toContain('256 tokens, 2 × 2 blocks');
  });

  it.each([
    [['--attention', '--acceleration', 'SnapKV'], 2, /SnapKV does more than choose blocks/],
    [['--attention', '--tokens', '0'], 2, /--tokens must be a whole number/],
    [['--attention', '--acceleration', 'XAttentoin'], 1, /no method called "XAttentoin"/],
    [['--attention', '--prompt-file', '/none.txt'], 1, /ERR_ACCEL_FILE.*\/none\.txt/],
    [['--attention', '--tokens', '130', '--output', '/none/x.html'], 1, /Check --output/],
  ])('%j is refused', async (words, code, message) => {
    const { exitCode, stderr, stdout } = await accel(['inspect', ...words]);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(code);
    expect(stdout).toBe('');
  });

  it('refuses a text without a whole block', async () => {
    const file = join(folder, 'short.txt');
    await writeFile(file, 'Too short.');
    const { exitCode, stderr } = await accel(['inspect', '--attention', '--prompt-file', file]);
    expect(stderr).toMatch(/the text has \d+ tokens, and blocks have 128/);
    expect(exitCode).toBe(2);
  });
});

/** Nothing in it that a browser would fetch: its own policy allows no address, and there is none. */
function expectSelfContained(page: string): void {
  expect(page).toContain(`content="default-src 'none';`);
  expect(page).not.toMatch(/https?:\/\//);
  expect(page).not.toMatch(/\b(?:src|srcset)=|@import|url\(|<link/);
  for (const [, target] of page.matchAll(/href="([^"]*)"/g)) expect(target).toMatch(/^#/);
}

/** A canvas of the page, and what was drawn on it. */
interface Canvas {
  readonly dataset: Record<string, string>;
  image?: { readonly data: Uint8ClampedArray };
}

function canvasOf(layer: number, head: number, kind: 'mask' | 'mass'): Canvas & object {
  const canvas: Canvas = { dataset: { layer: String(layer), head: String(head), kind } };
  const putImageData = (image: NonNullable<Canvas['image']>) => void (canvas.image = image);
  return Object.assign(canvas, { getContext: () => ({ putImageData }) });
}

interface Viewer {
  draw(canvas: Canvas): void;
  headOf(layer: number, head: number): object;
  massAt(data: object, i: number, j: number): number;
  computedAt(data: object, i: number, j: number): boolean;
  describe(canvas: Canvas, i: number, j: number): string;
}

/** Colours that tell the states of a block apart, as the style sheet has them. */
const colours = {
  '--computed': ' #010203',
  '--dense': ' #040506',
  '--out': ' #070809',
  '--unseen': ' #0a0b0c',
};

/** Runs the page's script beside just enough of a browser for it to start. */
function runViewer(page: string): Viewer {
  const quiet = {
    addEventListener: () => undefined,
    getContext: () => ({ putImageData: () => undefined }),
    value: '0',
  };
  const document = {
    getElementById: (id: string) => {
      const found = page.split(`<script type="application/json" id="${id}">`)[1];
      return { ...quiet, textContent: found?.split('</script>')[0] };
    },
    querySelectorAll: () => [],
  };
  const browser = {
    document,
    atob,
    matchMedia: () => quiet,
    IntersectionObserver: function Observer() {
      return undefined;
    },
    getComputedStyle: () => ({ getPropertyValue: (name: keyof typeof colours) => colours[name] }),
    ImageData: class {
      readonly data: Uint8ClampedArray;
      constructor(width: number, height: number) {
        this.data = new Uint8ClampedArray(4 * width * height);
      }
    },
  };
  return runInNewContext(
    `${viewerScript}\n;({ draw, headOf, massAt, computedAt, describe })`,
    browser,
  ) as Viewer;
}
