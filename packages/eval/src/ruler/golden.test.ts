import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { sharedFile } from '../testing/shared.js';
import { splitWords } from '../text/python-text.js';
import { generateSamples } from './generate.js';
import { loadSources } from './sources.js';
import { RULER_TASKS, rulerTask } from './tasks.js';
import type { RulerSources } from './types.js';

const golden = sharedFile('data/ruler/golden-official-ws.jsonl.gz');
const essays = sharedFile('data/ruler/PaulGrahamEssays.json.gz');
const nouns = sharedFile('data/ruler/wonderwords-nounlist.txt');
const punkt = sharedFile('data/ruler/punkt-english.json.gz');
const english = sharedFile('data/ruler/words_alpha.txt.gz');
const squad = ['squad-dev-v2.0-cs224n', 'squad-dev-v2.0-cs224n-distractors'].map((name) =>
  sharedFile(`data/ruler/${name}.json.gz`),
);
const hotpot = sharedFile('data/ruler/hotpot_dev_distractor_first100.json.gz');
const missing = [golden, essays, nouns, punkt, english, hotpot, ...squad].find(
  (file) => file.missing !== undefined,
)?.missing;

/** How questions begin: all of a task's wording of what is asked, and nothing of its text. */
const QUESTION =
  /^(\nWhat (is|are all) the special magic|\nQuestion: (Find|What|Do not)|\n\nAnswer the question based) [^\n]*(\n\nQuestion: [^\n]*)?$/;

/** `text.split()` counted, fast for long texts. These have no other whitespace. */
function countWords(text: string): number {
  let count = 0;
  let space = true;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    const isSpace =
      unit === 32 || unit === 10 || unit === 160 || (unit >= 0x2000 && unit <= 0x200a);
    if (space && !isSpace) count++;
    space = isSpace;
  }
  return count;
}

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
      // The official generator read both halves as one file.
      const squadPath = await mkdtemp(join(tmpdir(), 'accel-squad-'));
      for (const { path } of squad) await symlink(path, join(squadPath, basename(path)));
      sources = await loadSources({
        tasks: ['qa_1', 'qa_2'],
        squadPath,
        hotpotPath: hotpot.path,
        englishWordsPath: english.path,
        essayPath: essays.path,
        wordsPath: dirname(nouns.path),
        punktPath: punkt.path,
      });
    });

    it('builds as many key words as the official lists give', () => {
      expect(sources.words.length).toBe(6_171_620);
    });

    // Made with CPython from a second writing of the official generators: word lists that overflow, documents that repeat.
    it.each([
      ['cwe', 65_536, '6e8cfe4769b19021'],
      ['fwe', 65_536, '4ba8ced9fc1a0331'],
      ['qa_1', 131_072, 'adcfc668997646ce'],
      ['qa_2', 131_072, '21eb65ba616f10c2'],
    ])('%s at %d tokens', (name, length, digest) => {
      const task = rulerTask(name);
      const { maxNewTokens } = task;
      const context = { length, maxNewTokens, seed: 42, sources, countTokens: countWords };
      const { input, answerPrefix } = generateSamples(task, context).next().value;
      const hash = createHash('sha256').update(input + answerPrefix);
      expect(hash.digest('hex').slice(0, 16)).toBe(digest);
    });

    describe.each([1024, 4096])('length %i', (length) => {
      const tasks = RULER_TASKS.filter(({ name }) => length > 1024 || name !== 'qa_2');
      it.each(tasks.map((task) => ({ name: task.name, task })))('$name', ({ name, task }) => {
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
          expect(value.context + value.question).toBe(row.input);
          expect(value.question).toMatch(QUESTION);
          expect(value.firstQuestion).toMatch(QUESTION);
          expect(value.firstQuestion).not.toBe(value.question);
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
