import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { locateData } from '../data/locate.js';
import { fileError, messageOf } from '../errors.js';
import { sortedDistinct } from '../text/python-text.js';
import { parseJson, readText } from '../text/read-text.js';
import { hotpotFile, squadFile } from './qa-files.js';
import type { QaName } from './types.js';

/** Documents and the questions about them. Documents are named by their place in `documents`. */
export interface QaData {
  /** Sorted, distinct. */
  readonly documents: readonly string[];
  /** In the order of the file. */
  readonly questions: readonly QaQuestion[];
}

/** A question that its own documents answer. */
export interface QaQuestion {
  readonly text: string;
  /** What counts as right, in the order of the file, repeated where it repeats them. */
  readonly answers: readonly string[];
  readonly documents: readonly number[];
  /** Documents of the same article, which fill the haystack first. */
  readonly related: readonly number[];
}

/** How a set is read, and how to get it. */
const SETS: Readonly<
  Record<QaName, { parse: (json: unknown[]) => QaData; title: string; task: string; key: string }>
> = {
  squad: { parse: parseSquad, title: 'SQuAD 2.0', task: 'qa_1', key: 'squad_path' },
  hotpotqa: { parse: parseHotpot, title: 'HotpotQA', task: 'qa_2', key: 'hotpot_path' },
};

/**
 * Reads the data of a `qa` task: a file of the official form (`dev-v2.0.json`, `hotpot_dev_distractor_v1.json`; `.gz`
 * allowed), or a folder of such files, which are read in the order of their names as if they were one. SQuAD files
 * without questions only add documents.
 *
 * @param path default: what `accel data pull` stored
 * @throws AccelError ERR_ACCEL_FILE when there is no data, or it has another form
 */
export async function loadQa(
  name: QaName,
  path: string | undefined = locateData(name),
): Promise<QaData> {
  const { parse, title, task, key } = SETS[name];
  if (path === undefined) {
    throw fileError(
      `${task} needs ${title}, which does not come with this package. Get it with \`accel data pull ${name}\`, set ${key} ` +
        `to the file, or leave ${task} out.`,
    );
  }
  const files = await dataFiles(path, title);
  const json = await Promise.all(
    files.map(async (file) => parseJson(await readText(file, title), file)),
  );
  let data: QaData;
  try {
    data = parse(json);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const [first] = error.issues;
    throw fileError(
      `${path} does not hold ${title} in its official form: ${first?.path.join('.') ?? ''}: ${first?.message ?? ''}.`,
      error,
    );
  }
  if (data.questions.length === 0)
    throw fileError(`${path} has no questions that can be answered.`);
  return data;
}

async function dataFiles(path: string, title: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = (await readdir(path)).filter((name) => /\.json(\.gz)?$/.test(name)).sort();
    return names.map((name) => join(path, name));
  } catch (error) {
    throw fileError(
      `Cannot read ${title} from ${path}: ${messageOf(error)}. Check the path.`,
      error,
    );
  }
}

function parseSquad(files: readonly unknown[]): QaData {
  const articles = files.flatMap((file) => squadFile.parse(file).data);
  const { documents, numberOf } = numbered(
    articles.flatMap(({ paragraphs }) => paragraphs.map(({ context }) => context)),
  );
  const questions = articles.flatMap(({ paragraphs }) => {
    const article = paragraphs.map(({ context }) => numberOf(context));
    return paragraphs.flatMap(({ context, qas }) => {
      const own = numberOf(context);
      const related = article.filter((document) => document !== own);
      return qas
        .filter((qa) => !qa.is_impossible)
        .map((qa) => ({
          text: qa.question,
          answers: qa.answers.map(({ text }) => text),
          documents: [own],
          related,
        }));
    });
  });
  return { documents, questions };
}

function parseHotpot(files: readonly unknown[]): QaData {
  const rows = files
    .flatMap((file) => hotpotFile.parse(file))
    .map(({ question, answer, context }) => ({
      question,
      answer,
      documents: context.map(([title, sentences]) => `${title}\n${sentences.join('')}`),
    }));
  const { documents, numberOf } = numbered(rows.flatMap((row) => row.documents));
  const questions = rows.map((row) => ({
    text: row.question,
    answers: [row.answer],
    documents: row.documents.map(numberOf),
    related: [],
  }));
  return { documents, questions };
}

function numbered(all: readonly string[]): {
  documents: readonly string[];
  numberOf: (document: string) => number;
} {
  const documents = sortedDistinct(all);
  const numbers = new Map(documents.map((document, i) => [document, i]));
  return { documents, numberOf: (document) => numbers.get(document) ?? -1 };
}
