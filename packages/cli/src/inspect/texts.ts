import { readFile } from 'node:fs/promises';
import { AccelError, BLOCK, type Model } from '@accel/core';
import { generateSamples, loadSources, rulerTask } from '@accel/eval';
import { UsageError } from '../errors.js';

/** Token ids and where they came from. */
export interface TextTokens {
  readonly tokens: Int32Array;
  /** For people: the file's name, or what was made up. */
  readonly source: string;
}

/** What is read when no text is given: a needle in an essay. */
const TASK = 'niah_single_2';
/** Prompts of the task come in steps of up to so many tokens; one that is longer than wanted is shortened. */
const STEP = 1500;
/** Tokens at both ends of a prompt that are not cut out: what it is about, and the question. */
const HEAD = 64;
const QUESTION = 128;

/**
 * The text to look at: a file, cut to `length` tokens if that is given, or a made-up prompt of `length` tokens (default
 * 4096).
 *
 * @throws UsageError for a text of fewer than 128 tokens, AccelError ERR_ACCEL_FILE, ERR_ACCEL_ARGUMENT
 */
export async function readTokens(
  model: Model,
  file: string | undefined,
  length: number | undefined,
): Promise<TextTokens> {
  const tokens =
    file === undefined
      ? await madeUp(model, length ?? 4096)
      : model.tokenizer.encode(await readText(file), { addSpecial: true }).slice(0, length);
  if (tokens.length < BLOCK) {
    throw new UsageError(
      `the text has ${tokens.length} tokens, and blocks have ${BLOCK}. Give a longer one.`,
    );
  }
  return { tokens, source: file ?? `${TASK}, made up` };
}

/** @throws AccelError ERR_ACCEL_FILE */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read the text ${path}: ${(error as Error).message}. Check the path.`,
      { cause: error },
    );
  }
}

async function madeUp({ tokenizer }: Model, length: number): Promise<Int32Array> {
  const samples = generateSamples(rulerTask(TASK), {
    countTokens: (text) => tokenizer.encode(text, { addSpecial: false }).length,
    length: length + STEP,
    maxNewTokens: 0,
    seed: 42,
    sources: await loadSources(),
  });
  const { input, answerPrefix, answerTokenPosition = 0 } = samples.next().value;
  const tokens = tokenizer.encode(input + answerPrefix, { addSpecial: true });
  return cutOut(tokens, length, answerTokenPosition);
}

/** Takes as many tokens out of the haystack as a prompt has too many, on the side where the needle is not. */
function cutOut(tokens: Int32Array, length: number, needle: number): Int32Array {
  const excess = tokens.length - length;
  if (excess <= 0) return tokens;
  const from = needle < tokens.length / 2 ? Math.max(0, length - QUESTION) : Math.min(HEAD, length);
  return Int32Array.from([...tokens.slice(0, from), ...tokens.slice(from + excess)]);
}
