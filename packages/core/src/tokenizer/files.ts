import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import { readJsonObject } from '../config/hf-config.js';

/** What the files beside tokenizer.json say. */
export interface TokenizerFiles {
  /** tokenizer_config.json, or an empty object. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Special tokens by role: `bos_token`, `eos_token`, … */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Chat templates by name; the usual one is called `default`. */
  readonly template: Readonly<Record<string, string>> | undefined;
}

/** A token is its text, or an object with the text in `content`. */
const token = z.union([
  z.string(),
  z.looseObject({ content: z.string() }).transform(({ content }) => content),
]);

const templateSchema = z.union([
  z.string().transform((text): Record<string, string> => ({ default: text })),
  z
    .array(z.looseObject({ name: z.string(), template: z.string() }))
    .transform((list) => Object.fromEntries(list.map(({ name, template }) => [name, template]))),
  z.record(z.string(), z.string()),
]);

/**
 * Reads the optional files of a tokenizer. A chat template in a file of its own goes before one in
 * tokenizer_config.json.
 */
export async function readTokenizerFiles(path: string): Promise<TokenizerFiles> {
  const configFile = join(path, 'tokenizer_config.json');
  const config = (await readTokenizerJson(configFile)) ?? {};
  const map = (await readTokenizerJson(join(path, 'special_tokens_map.json'))) ?? {};
  const own = await readOptional(join(path, 'chat_template.jinja'));
  const json = await readTokenizerJson(join(path, 'chat_template.json'));
  return {
    config,
    specialTokens: { ...readSpecialTokens(map), ...readSpecialTokens(config) },
    template: readTemplate(configFile, own ?? json?.['chat_template'] ?? config['chat_template']),
  };
}

function readSpecialTokens(values: Readonly<Record<string, unknown>>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(values)) {
    if (!/^[a-z_]+_token$/.test(key)) continue;
    const result = token.safeParse(value);
    // add_bos_token and the like are flags, and null means there is none.
    if (result.success) tokens[key] = result.data;
  }
  return tokens;
}

function readTemplate(file: string, value: unknown): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  const result = templateSchema.safeParse(value);
  if (result.success && Object.keys(result.data).length > 0) return result.data;
  throw new AccelError(
    'ERR_ACCEL_TOKENIZER',
    `${file}: chat_template must be a text, or a list of { name, template }. Fetch the file again.`,
  );
}

async function readTokenizerJson(file: string): Promise<Record<string, unknown> | undefined> {
  try {
    return await readJsonObject(file);
  } catch (error) {
    if (!AccelError.isInstance(error) || error.code !== 'ERR_ACCEL_CONFIG') throw error;
    throw new AccelError('ERR_ACCEL_TOKENIZER', error.message, { cause: error });
  }
}

async function readOptional(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read ${file}: ${(error as Error).message}. Check its permissions.`,
      { cause: error },
    );
  }
}
