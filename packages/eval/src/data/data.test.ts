import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { FakeHub, errorWith } from '@accel/testkit';
import { zipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseBenchmarkConfig } from '../config/parse.js';
import { sharedFile } from '../testing/shared.js';
import { readPunktParameters } from '../text/punkt-parameters.js';
import { dataFolder, locateData } from './locate.js';
import type { DataManifest } from './manifest.js';
import { pullData, type PullDataOptions, type PulledData } from './pull.js';
import { DATA_SETS, dataSet, type DataName } from './sets.js';

const SQUAD = JSON.stringify({
  version: 'v2.0',
  data: [
    {
      title: 'Normans',
      paragraphs: [
        {
          context: 'Normandy.',
          qas: [{ question: 'Where?', is_impossible: false, answers: [{ text: 'N' }] }],
        },
      ],
    },
  ],
});
const HOTPOT = JSON.stringify([
  { question: 'Who?', answer: 'yes', context: [['Ed Wood', ['A film.', ' It is.']]] },
]);
const RECORD = {
  input: 'q',
  context: 'c',
  answers: ['a'],
  length: 3,
  dataset: 'qasper',
  language: 'en',
  all_classes: null,
  _id: '1',
};
const LINES = `${JSON.stringify(RECORD)}\n${JSON.stringify(RECORD)}\n`;

let hub: FakeHub;
let home: string;
let env: Record<string, string>;
beforeEach(async () => {
  hub = await FakeHub.start();
  home = await mkdtemp(join(tmpdir(), 'accel-data-'));
  env = { HOME: home, HF_ENDPOINT: hub.url };
});
afterEach(async () => {
  await hub.close();
  await rm(home, { recursive: true, force: true });
});

function pull(name: DataName, options: PullDataOptions = {}): Promise<PulledData> {
  return pullData(name, { env, ...options });
}

/** What is in the data folder, without what helps the next download. */
async function sets(): Promise<string[]> {
  expect(await readdir(join(dataFolder(env), '.staging'))).toEqual([]);
  return (await readdir(dataFolder(env))).filter((name) => !name.startsWith('.'));
}

/** Puts a file on the server. Returns its address. */
function serve(file: string, content: string | Uint8Array): string {
  hub.commit(`site/${file.replace(/\W/g, '-')}`, { [file]: { content } });
  return `${hub.url}/site/${file.replace(/\W/g, '-')}/resolve/main/${file}`;
}

async function save(file: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(home, file), content);
  return join(home, file);
}

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

function zip(files: Record<string, string>): Uint8Array {
  return zipSync(
    Object.fromEntries(Object.entries(files).map(([name, text]) => [name, Buffer.from(text)])),
  );
}

describe('the catalogue', () => {
  it('names licence and homepage of every set, and origins that are pinned or checked', () => {
    for (const { name, licence, homepage, origins, entry } of DATA_SETS) {
      expect(licence).not.toBe('');
      expect(URL.canParse(homepage)).toBe(true);
      expect(dataSet(name).entry).toBe(entry);
      for (const { from, sha256: hash } of origins) {
        const pinned = /\/[0-9a-f]{40}\//.test(from) || from.startsWith('datasets/');
        expect(pinned || hash !== undefined, from).toBe(true);
      }
    }
    expect(() => dataSet('sqad')).toThrow(
      errorWith('ERR_ACCEL_ARGUMENT', /There is no data set "sqad"\. Did you mean squad\?/),
    );
  });

  const { path, missing } = sharedFile('data/ruler/wonderwords-nounlist.txt');
  it.skipIf(missing)(`has the checksums of wonderwords${missing ?? ''}`, async () => {
    for (const { from, sha256: hash, bytes } of dataSet('wonderwords').origins) {
      const list = /(\w+)list\.txt$/.exec(from)?.[1] ?? '';
      const content = await readFile(path.replace('noun', list));
      expect([sha256(content), content.length]).toEqual([hash, bytes]);
    }
  });
});

describe('the data folder', () => {
  it('is $ACCEL_DATA, or in the cache', () => {
    expect(dataFolder({ ACCEL_DATA: '/data', XDG_CACHE_HOME: '/c' })).toBe('/data');
    expect(dataFolder({ XDG_CACHE_HOME: '/c', HOME: '/h' })).toBe('/c/accel/data');
    expect(dataFolder({ HOME: '/h' })).toBe('/h/.cache/accel/data');
  });
});

describe('pullData', () => {
  it('downloads a set, and benchmarks find it', async () => {
    const from = serve('dev-v2.0.json', SQUAD);
    expect(locateData('squad', env)).toBeUndefined();
    const origins = [{ from, sha256: sha256(SQUAD), bytes: SQUAD.length }];
    const { path, manifest, wasThere } = await pull('squad', { origins });
    expect(wasThere).toBe(false);
    expect(path).toBe(join(home, '.cache/accel/data/squad/dev-v2.0.json'));
    expect(locateData('squad', env)).toBe(path);
    expect(await readFile(path, 'utf8')).toBe(SQUAD);
    expect(manifest).toMatchObject({
      name: 'squad',
      licence: 'CC BY-SA 4.0',
      sources: [{ from, sha256: sha256(SQUAD) }],
      files: [{ path: 'dev-v2.0.json', bytes: SQUAD.length, sha256: sha256(SQUAD) }],
    });
    const { config } = parseBenchmarkConfig(
      'benchmark_name: RULER\nsquad_path: data:squad',
      'c.yaml',
      env,
    );
    expect(config).toMatchObject({ squadPath: path });
    // Nothing is left of the work, and nothing is asked for again.
    expect((await readdir(dataFolder(env))).filter((name) => name.startsWith('.squad'))).toEqual(
      [],
    );
    hub.requests.length = 0;
    expect((await pull('squad', { origins })).wasThere).toBe(true);
    expect(hub.requests).toEqual([]);
  });

  it('goes on after an interruption, and tells how far it is', async () => {
    const from = serve('hotpot.json', HOTPOT.padEnd(100_000));
    const origins = [{ from, sha256: sha256(HOTPOT.padEnd(100_000)) }];
    hub.fault = () => ({ hangAfter: 40_000 });
    const stop = new AbortController();
    const stopped = pull('hotpotqa', {
      origins,
      signal: stop.signal,
      onProgress: ({ doneBytes }) => {
        if (doneBytes >= 40_000) stop.abort();
      },
    });
    await expect(stopped).rejects.toThrow(errorWith('ERR_ACCEL_ABORTED'));
    expect(locateData('hotpotqa', env)).toBeUndefined();
    hub.fault = undefined;
    const progress: number[] = [];
    await pull('hotpotqa', {
      origins,
      onProgress: ({ reusedBytes }) => progress.push(reusedBytes),
    });
    expect(hub.requests.at(-1)?.range).toBe('bytes=40000-');
    expect(progress.at(-1)).toBe(40_000);
  });

  it('pulls LongBench from the Hub, with its token, and unpacks it', async () => {
    const data = zip({
      'data/qasper.jsonl': LINES,
      'data/qasper_e.jsonl': LINES,
      '__MACOSX/data/._qasper.jsonl': 'shadow',
      'data/README.md': 'about',
      '../../../evil.jsonl': LINES,
    });
    hub.commit('datasets/THUDM/LongBench', { 'data.zip': { content: data, lfs: true } });
    hub.restrict('datasets/THUDM/LongBench', 'private');
    env['HF_TOKEN'] = 'secret';
    // A name that leads out of the folder makes the whole archive suspect.
    await expect(pull('longbench')).rejects.toThrow(errorWith('ERR_ACCEL_FILE', /data\.zip/));
    const good = zip({
      'data/qasper.jsonl': LINES,
      'data/qasper_e.jsonl': LINES,
      '__MACOSX/data/._qasper.jsonl': 'shadow',
      'data/README.md': 'about',
    });
    hub.commit('datasets/THUDM/LongBench', { 'data.zip': { content: good, lfs: true } });
    const { path, manifest } = await pull('longbench');
    expect((await readdir(path)).sort()).toEqual([
      'manifest.json',
      'qasper.jsonl',
      'qasper_e.jsonl',
    ]);
    expect(manifest.sources[0]?.from).toMatch(
      /^datasets\/THUDM\/LongBench\/data\.zip@[0-9a-f]{40}$/,
    );
    expect(manifest.sources[0]?.sha256).toBe(sha256(good));
  });

  it('downloads once when several pull the same set', async () => {
    const from = serve('dev-v2.0.json', SQUAD);
    hub.fault = (request) => (request.path.includes('resolve-cache') ? { slowMs: 20 } : undefined);
    const waits: string[] = [];
    const pulls = [1, 2, 3].map(() =>
      pull('squad', { origins: [{ from }], onWait: (owner) => waits.push(owner) }),
    );
    const pulled = await Promise.all(pulls);
    expect(pulled.map(({ wasThere }) => wasThere).sort()).toEqual([false, true, true]);
    expect(waits).toHaveLength(2);
    expect(hub.downloads('dev-v2.0.json')).toHaveLength(1);
  });

  it('keeps the old set when a new one cannot be had', async () => {
    const from = await save('dev.json', SQUAD);
    const { path } = await pull('squad', { from });
    const wrong = await save('wrong.json', '{"data": [{"paragraphs": 1}]}');
    await expect(pull('squad', { from: wrong })).rejects.toThrow(
      errorWith(
        'ERR_ACCEL_FILE',
        /wrong\.json is not the set squad: .*data\[0\]\.paragraphs: value is 1; allowed: a list/,
      ),
    );
    expect(await readFile(path, 'utf8')).toBe(SQUAD);
    await pull('squad', { from: await save('dev.json', SQUAD.replace('Where', 'Who')) });
    expect(await readFile(path, 'utf8')).toContain('Who?');
    expect(await sets()).toEqual(['squad']);
  });

  it('imports .gz, .zip and folders', async () => {
    await pull('hotpotqa', { from: await save('any-name.json.gz', gzipSync(HOTPOT)) });
    expect(await readFile(locateData('hotpotqa', env) ?? '', 'utf8')).toBe(HOTPOT);

    const words = Array.from({ length: 200 }, (_, i) => `word${i}`).join('\r\n');
    const folder = join(home, 'wonderwords', 'assets');
    await mkdir(folder, { recursive: true });
    for (const list of ['wonderwords-nounlist', 'adjectivelist', 'verblist', 'profanitylist']) {
      await writeFile(join(folder, `${list}.txt`), words);
    }
    const { manifest } = await pull('wonderwords', { from: join(home, 'wonderwords') });
    expect(manifest.files.map(({ path }) => path)).toEqual([
      'adjectivelist.txt',
      'nounlist.txt',
      'verblist.txt',
    ]);

    const many = Array.from({ length: 12_000 }, (_, i) => `w${i}`).join('\n');
    await pull('english-words', { from: await save('x.zip', zip({ 'words_alpha.txt': many })) });
    expect(await readFile(locateData('english-words', env) ?? '', 'utf8')).toBe(many);
  });

  it("turns NLTK's Punkt tables into the JSON that is read here", async () => {
    const tables = zip({
      'punkt_tab/english/abbrev_types.txt': 'dr\ne.g\n',
      'punkt_tab/english/collocations.tab': '##number##\tapril\n',
      'punkt_tab/english/sent_starters.txt': 'the\n',
      'punkt_tab/english/ortho_context.tab': 'dr\t12\nthe\t46\n',
      'punkt_tab/german/abbrev_types.txt': 'z.b\n',
    });
    const { path } = await pull('punkt', { from: await save('punkt_tab.zip', tables) });
    expect(await readdir(join(path, '..'))).toEqual(['manifest.json', 'punkt-english.json']);
    const parameters = await readPunktParameters(path);
    expect([...parameters.abbreviations]).toEqual(['dr', 'e.g']);
    expect([...parameters.collocations]).toEqual(['##number## april']);
    expect(parameters.orthography.get('the')).toBe(46);
  });

  const shared = sharedFile('data/ruler/punkt-english.json.gz');
  it.skipIf(shared.missing)(`imports real files${shared.missing ?? ''}`, async () => {
    const ruler = join(shared.path, '..');
    const real: [DataName, string][] = [
      ['punkt', 'punkt-english.json.gz'],
      ['squad', 'squad-dev-v2.0-cs224n.json.gz'],
      ['hotpotqa', 'hotpot_dev_distractor_first100.json.gz'],
      ['essays', 'PaulGrahamEssays.json.gz'],
      ['english-words', 'words_alpha.txt.gz'],
      ['wonderwords', '.'],
    ];
    for (const [name, file] of real) {
      const { path } = await pull(name, { from: join(ruler, file) });
      expect(locateData(name, env)).toBe(path);
    }
  });

  it('says what is wrong, and leaves nothing behind', async () => {
    const damaged = Buffer.from(zip({ 'data/qasper.jsonl': LINES.repeat(50) }));
    damaged[60] = (damaged[60] ?? 0) ^ 0xff;
    const cases: [DataName, string, string | Uint8Array, RegExp][] = [
      [
        'squad',
        'page.json',
        '<html>',
        /page\.json is not the set squad: dev-v2\.0\.json is not JSON/,
      ],
      ['hotpotqa', 'h.json', '[{"question": 1}]', /\[0\]\.question: value is 1; allowed: a text/],
      ['essays', 'e.json', '{"texts": "x"}', /text: value is missing; allowed: a text/],
      ['english-words', 'w.txt', 'a\nb\n', /it has 2 lines of one word, and at least 10000/],
      ['english-words', 'p.txt', 'Some prose here.\n'.repeat(20_000), /0 lines of one word/],
      ['longbench', 'l.zip', zip({ 'README.md': '' }), /l\.zip has no file of the set longbench/],
      ['longbench', 'r.zip', zip({ 'x.jsonl': '{}\n' }), /x\.jsonl:1 has another shape: input/],
      ['longbench', 'd.zip', damaged, /Cannot read .*d\.zip: /],
      ['longbench', 'c.zip', damaged.subarray(0, 90), /Cannot read .*c\.zip: /],
      ['squad', 'g.gz', gzipSync(SQUAD).subarray(0, 50), /Cannot read .*g\.gz: /],
      ['wonderwords', 'n.txt', 'noun', /n\.txt has no file of the set wonderwords/],
    ];
    for (const [name, file, content, message] of cases) {
      await expect(pull(name, { from: await save(file, content) }), file).rejects.toThrow(
        errorWith('ERR_ACCEL_FILE', message),
      );
    }
    await expect(pull('squad', { from: join(home, 'none') })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', /Check --from/),
    );
    await expect(pull('essays')).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', /© Paul Graham.*accel data pull essays --from <file>/),
    );
    await expect(pull('squad', { origins: [{ from: `${hub.url}/none/x/y` }] })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB'),
    );
    const origins = [{ from: serve('s.json', SQUAD), sha256: sha256('other') }];
    await expect(pull('squad', { origins })).rejects.toThrow(errorWith('ERR_ACCEL_CHECKSUM'));
    expect(await sets()).toEqual([]);
  });

  it('writes a manifest that can be read without this package', async () => {
    const { path } = await pull('squad', { from: await save('dev.json', SQUAD) });
    const text = await readFile(join(path, '..', 'manifest.json'), 'utf8');
    const manifest = JSON.parse(text) as DataManifest;
    expect(Number.isNaN(Date.parse(manifest.date))).toBe(false);
    expect(manifest.sources).toEqual([{ from: join(home, 'dev.json'), sha256: sha256(SQUAD) }]);
  });
});
