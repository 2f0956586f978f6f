import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MODES } from '../../prompt/modes.js';
import { fakeRun } from '../../testing/fake-run.js';
import { renderReport } from './render-report.js';

const METHODS = ['full', 'SnapKV', 'FlexPrefill'];
const HOSTILE = '</pre><script>document.title = "run"</script><img src="http://127.0.0.1:9/x">';

const ruler = fakeRun({
  name: 'ruler & <more>',
  methods: METHODS,
  tasks: ['niah_single_1', 'vt'],
  lengths: [1024, 4096],
  modes: MODES,
  edit: (record) => {
    const { id, task, length, sample, mode, method, policy } = record;
    if (method === 'full' && length === 4096 && task === 'vt') {
      const failure = { code: 'ERR_ACCEL_OUT_OF_MEMORY', message: HOSTILE };
      return { id, task, length, sample, mode, method, policy, failure };
    }
    if (method !== 'FlexPrefill' || record.receipt === undefined) return record;
    return { ...record, receipt: { ...record.receipt, fallbacks: ['dense attention'] } };
  },
});
const needle = fakeRun({
  name: 'needle',
  benchmark: 'NIAH',
  tasks: ['niah'],
  samples: 3,
  methods: METHODS,
});
const nll = fakeRun({ name: 'nll', benchmark: 'NLL', tasks: ['text'], methods: METHODS });

let html: string;
const warn = vi.spyOn(console, 'warn');
beforeAll(async () => (html = await renderReport([ruler, needle, nll])));

describe('a report', () => {
  it('is one file that can load and run nothing', () => {
    expect(html).toContain(
      `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    );
    const found = [
      /<(script|link|iframe|object|embed|img)\b/i,
      /@import|url\([^#]/,
      / (src|on\w+)="/i,
      /href="[^#]/,
    ].flatMap((pattern) => pattern.exec(html)?.[0] ?? []);
    expect(found).toEqual([]);
  });

  it('has each id once, and only links that lead somewhere', () => {
    const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([]);
    const targets = [
      ...html.matchAll(/(?:href="#|aria-(?:labelledby|describedby)="|url\(#)([^")]+)/g),
    ].map(([, id]) => id);
    expect(targets.length).toBeGreaterThan(20);
    expect(targets.filter((id) => !ids.includes(id))).toEqual([]);
  });

  it('has charts that Vega has nothing to say about', () => {
    expect(warn).not.toHaveBeenCalled();
  });

  it('needs a run', async () => {
    await expect(renderReport([])).rejects.toThrow(/at least one run/);
  });
});

/** What the page's charts look like to a browser. A text, since this program knows no types of a page. */
const LOOK_AT_CHARTS = `[...document.querySelectorAll('svg[role=img]')].map((svg) => ({
  width: svg.getBoundingClientRect().width,
  height: svg.getBoundingClientRect().height,
  marks: svg.querySelectorAll('path[fill]:not([display=none])').length,
  broken: /NaN|undefined/.exec(svg.innerHTML)?.[0] ?? null,
}))`;
interface ChartShape {
  readonly width: number;
  readonly height: number;
  readonly marks: number;
  readonly broken: string | null;
}

const executablePath = process.env.ACCEL_CHROMIUM ?? '/usr/bin/chromium';
const browserMissing = existsSync(executablePath)
  ? false
  : `no browser at ${executablePath}; set ACCEL_CHROMIUM`;

describe.skipIf(browserMissing)(`a report in a browser ${browserMissing || ''}`, () => {
  let folder: string;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'accel-report-'));
    await writeFile(join(folder, 'report.html'), html);
    browser = await chromium.launch({
      executablePath,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    const context = await browser.newContext({ offline: true, colorScheme: 'dark' });
    page = await context.newPage();
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => {
      if (!request.url().endsWith('/report.html')) complaints.push(request.url());
    });
    await page.goto(pathToFileURL(join(folder, 'report.html')).href);
  });
  afterAll(async () => {
    await browser.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('opens offline without a complaint, and text stays text', async () => {
    expect(await page.title()).toBe('RULER, NIAH, NLL: ruler & <more>, needle, nll');
    expect(await page.getByText('document.title =').count()).toBe(1);
    expect(await page.locator('img, script').count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  it('has a section for everything', async () => {
    const headings = await page.locator('h2').allTextContents();
    expect(headings.slice(0, 8)).toEqual([
      'RULER: What was run',
      'RULER: Scores',
      'RULER: Against full attention',
      'RULER: Tasks',
      'RULER: What a score costs',
      'RULER: Time and memory',
      'RULER: What was evicted',
      'RULER: Failures and fallbacks',
    ]);
    expect(headings.at(-1)).toBe('Reading the numbers');
    // A benchmark of one task has no table of tasks.
    expect(headings).not.toContain('NIAH: Tasks');
    expect(await page.locator('#ruler-failures').locator('..').textContent()).toMatch(
      /dense attention48/,
    );
  });

  it("shows the seed's table, modes under each other, a dash for failures", async () => {
    const table = page.getByRole('table', { name: 'Scores by length' }).first();
    expect(await table.getByRole('columnheader').allTextContents()).toEqual([
      'Sequence length',
      'Mode',
      ...METHODS,
    ]);
    const average = ruler.summary.averages.find(({ method }) => method === 'SnapKV');
    const cell = table.getByRole('row').nth(1).getByRole('cell').nth(1);
    expect(await cell.textContent()).toMatch(
      new RegExp(`^${average?.score?.toFixed(2) ?? ''}\\d+`),
    );
    const failed = table.getByRole('row').nth(4).getByRole('cell').first();
    expect(await failed.textContent()).toBe('-');
    expect(await table.getByRole('row').last().textContent()).toMatch(
      /second-turn(\d:\d\d:\d\d){3}$/,
    );
  });

  it('names rows and columns of every table', async () => {
    expect(await page.locator('table').count()).toBeGreaterThan(10);
    const nameless = 'table:not(:has(> caption)), thead td, thead th:not([scope=col])';
    expect(await page.locator(nameless).count()).toBe(0);
    expect(await page.locator('tbody tr:not(:has(> th[scope]))').count()).toBe(0);
  });

  it('draws charts that can be seen, and says in words what they show', async () => {
    const charts = await page.evaluate<ChartShape[]>(LOOK_AT_CHARTS);
    const names = await page.locator('figure h4').allTextContents();
    expect(charts.length).toBe(names.length);
    expect(names).toEqual(
      expect.arrayContaining([
        'Difference to full attention',
        'Scores of tasks, query-agnostic',
        'Score against KV cache',
        'Score against time',
        'Time of a record',
        'Memory of the KV cache',
        'Rows kept by layer',
        'Needle in a haystack, query-aware',
      ]),
    );
    for (const { width, height, marks, broken } of charts) {
      expect(width).toBeGreaterThan(100);
      expect(height).toBeGreaterThan(50);
      expect(marks).toBeGreaterThan(1);
      expect(broken).toBeNull();
    }
    // 3 methods, 2 lengths, 3 depths.
    const heat = page.locator('figure', { hasText: 'Needle in a haystack' }).first();
    expect(await heat.locator('.mark-rect.role-mark path').count()).toBe(18);
  });

  it('keeps the data of each chart', async () => {
    const specs = await page.locator('figure details pre').allTextContents();
    for (const text of specs) {
      const spec = JSON.parse(text) as { $schema: string; data: { values: unknown[] } };
      expect(spec.$schema).toContain('vega-lite/v6');
      expect(spec.data.values.length).toBeGreaterThan(0);
    }
  });

  it('follows the light and dark of the system, and does not scroll sideways', async () => {
    const colors = (): Promise<string[]> =>
      page.evaluate(
        `[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]`,
      );
    expect(await colors()).toEqual(['rgb(15, 20, 25)', 'rgb(230, 233, 237)']);
    await page.emulateMedia({ colorScheme: 'light' });
    expect(await colors()).toEqual(['rgb(255, 255, 255)', 'rgb(27, 31, 36)']);
    await page.setViewportSize({ width: 600, height: 800 });
    const wide = await page.evaluate('document.documentElement.scrollWidth');
    expect(wide).toBeLessThanOrEqual(600);
  });
});
