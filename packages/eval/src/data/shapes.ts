import { createReadStream } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { describeProblems } from '../config/problems.js';
import { fileError, messageOf } from '../errors.js';
import { hotpotFile, squadFile } from '../ruler/qa-files.js';
import { convertPunktTab } from './punkt-tab.js';

type Check = (folder: string) => Promise<void>;

/** SQuAD's JSON: articles, paragraphs, questions. */
export function checkSquad(file: string): Check {
  return (folder) => checkJson(folder, file, squadFile);
}

/** HotpotQA's JSON in its first form, `[title, [sentence, …]]`, not the columns of its Hugging Face copy. */
export function checkHotpot(file: string): Check {
  return (folder) => checkJson(folder, file, hotpotFile);
}

/** RULER's essays: `{"text": "…"}`. */
export function checkEssays(file: string): Check {
  return (folder) => checkJson(folder, file, z.object({ text: z.string().min(1) }));
}

const punkt = z.object({
  abbrev_types: z.array(z.string()).min(1),
  collocations: z.array(z.tuple([z.string(), z.string()])),
  sent_starters: z.array(z.string()),
  ortho_context: z.record(z.string(), z.int()),
});

/** Punkt parameters as JSON; NLTK's tables are turned into it first. */
export function checkPunkt(file: string): Check {
  return async (folder) => {
    await convertPunktTab(folder, file);
    await checkJson(folder, file, punkt);
  };
}

/** Word lists: at least `least` lines, a word each. */
export function checkWords(files: readonly string[], least: number): Check {
  return async (folder) => {
    for (const file of files) {
      const lines = (await readOr(folder, file)).split('\n').map((line) => line.trim());
      const words = lines.filter((line) => /^\S+$/.test(line)).length;
      if (words < least || lines.filter((line) => line !== '').length - words > words / 10) {
        throw fileError(
          `${file} is not the list that was expected: it has ${words} lines of one word, and at least ${least} were expected.`,
        );
      }
    }
  };
}

const longBenchRecord = z.object({
  input: z.string(),
  context: z.string(),
  answers: z.array(z.string()),
  all_classes: z.array(z.string()).nullish(),
  length: z.number(),
  dataset: z.string(),
  language: z.string(),
});

/** One `<task>.jsonl` at least, each beginning with a record. */
export const checkLongBench: Check = async (folder) => {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.jsonl'));
  if (files.length === 0) {
    throw fileError('There is no <task>.jsonl file in it. LongBench comes as one for each task.');
  }
  for (const file of files) {
    checkValue(`${file}:1`, await firstLine(join(folder, file)), longBenchRecord);
  }
};

async function firstLine(path: string): Promise<string> {
  const input = createReadStream(path, 'utf8');
  try {
    for await (const line of createInterface({ input, crlfDelay: Infinity })) return line;
    return '';
  } finally {
    input.destroy();
  }
}

async function checkJson(folder: string, file: string, schema: z.ZodType): Promise<void> {
  checkValue(file, await readOr(folder, file), schema);
}

function checkValue(name: string, text: string, schema: z.ZodType): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fileError(`${name} is not JSON: ${messageOf(error)}.`, error);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return;
  const [first] = describeProblems(parsed.error, schema, value);
  throw fileError(`${name} has another shape: ${first?.text ?? ''}.`, parsed.error);
}

async function readOr(folder: string, file: string): Promise<string> {
  try {
    return await readFile(join(folder, file), 'utf8');
  } catch (error) {
    throw fileError(`There is no ${file} in it.`, error);
  }
}
