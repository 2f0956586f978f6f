import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { sharedFile } from '../testing/shared.js';
import { splitWords } from '../text/python-text.js';
import { generateSamples } from './generate.js';
import { loadSources } from './sources.js';
import { RULER_TASKS } from './tasks.js';
import type { RulerSources } from './types.js';

const golden = sharedFile('data/ruler/golden-official-ws.jsonl.gz');
const essays = sharedFile('data/ruler/PaulGrahamEssays.json.gz');
const nouns = sharedFile('data/ruler/wonderwords-nounlist.txt');
const punkt = sharedFile('data/ruler/punkt-english.json.gz');
const missing = golden.missing ?? essays.missing ?? nouns.missing ?? punkt.missing;

interface GoldenRow {
  task: string;
  max_seq_length: number;
  sample: number;
  index: number;
  input: string;
  outputs: string[];
  length: number;
  answer_prefix: string;
  token_position_answer?: number;
}

describe.skipIf(missing !== undefined)(
  `official generators, byte for byte${missing ? `: ${missing}` : ''}`,
  () => {
    const rows: GoldenRow[] =
      missing === undefined
        ? gunzipSync(readFileSync(golden.path))
            .toString()
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line) as GoldenRow)
        : [];
    let sources: RulerSources;
    beforeAll(async () => {
      sources = await loadSources({
        essayPath: essays.path,
        wordsPath: dirname(nouns.path),
        punktPath: punkt.path,
      });
    });

    it('builds as many key words as the official lists give', () => {
      expect(sources.words.length).toBe(6_171_620);
    });

    describe.each([1024, 4096])('length %i', (length) => {
      it.each(RULER_TASKS.map((task) => ({ name: task.name, task })))('$name', ({ name, task }) => {
        const expected = rows.filter((row) => row.task === name && row.max_seq_length === length);
        expect(expected).toHaveLength(2);
        const samples = generateSamples(task, {
          length,
          maxNewTokens: task.maxNewTokens,
          seed: 42,
          sources,
          countTokens: (text) => splitWords(text).length,
        });
        for (const row of expected) {
          const { value } = samples.next();
          expect(value.input).toBe(row.input);
          expect(value.answerPrefix).toBe(row.answer_prefix);
          expect(value.references).toEqual(row.outputs);
          expect(value.measuredLength).toBe(row.length);
          expect(value.answerOffset ?? value.index).toBe(row.index);
          expect(value.answerTokenPosition).toBe(row.token_position_answer);
        }
      });
    });
  },
);
