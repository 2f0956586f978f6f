import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { suggest } from '@accel/core';
import { z } from 'zod';
import type { Environment } from '../data/locate.js';
import { configError, fileError, messageOf } from '../errors.js';
import { longBenchReader } from './longbench.js';
import { niahReader } from './niah.js';
import { nllReader } from './nll.js';
import { resolvePath } from './paths.js';
import { describeProblems, formatValue } from './problems.js';
import type { ConfigReader } from './reader.js';
import { rulerReader } from './ruler.js';
import type { BenchmarkConfig } from './types.js';
import { parseYaml, type YamlText } from './yaml-text.js';

/** A config and what its reader should know. */
export interface ParsedConfig {
  readonly config: BenchmarkConfig;
  /** Keys without meaning and readings that one may not expect, each with `file:line:column`. */
  readonly warnings: readonly string[];
}

const READERS: Readonly<Record<BenchmarkConfig['benchmark'], ConfigReader>> = {
  RULER: rulerReader,
  LongBench: longBenchReader,
  NIAH: niahReader,
  NLL: nllReader,
};

const head = z.looseObject({ benchmark_name: z.enum(Object.keys(READERS)) });

/**
 * Parses a benchmark config in the seed toolkit's YAML form and fills in defaults. Unknown keys are warnings, anything
 * else that is wrong is an error.
 *
 * @param file names the text in messages; relative paths in it are resolved from its folder. Default `config.yaml`
 * @param env where `ACCEL_DATA` is read for paths like `data:essays`. Default `process.env`
 * @throws AccelError ERR_ACCEL_CONFIG: a line for each problem, with place, path, value and what is allowed
 */
export function parseBenchmarkConfig(
  text: string,
  file: string = 'config.yaml',
  env: Environment = process.env,
): ParsedConfig {
  const yaml = parseYaml(text, file);
  check(head, yaml);
  const { benchmark_name: name } = yaml.value as { benchmark_name: BenchmarkConfig['benchmark'] };
  const reader = READERS[name];
  check(reader.schema, yaml);
  const warnings = [...yaml.warnings, ...unknownKeys(yaml, reader)];
  const refuse = (key: string, allowed: string): never => {
    const value = (yaml.value as Record<string, unknown>)[key];
    throw configError(
      `${yaml.where([key])}: ${key}: value is ${formatValue(value)}; allowed: ${allowed}`,
    );
  };
  const config = reader.build(reader.schema.parse(yaml.value), {
    refuse,
    warn: (key, message) => {
      warnings.push(`${yaml.where([key], true)}: ${key} ${message}.`);
    },
    resolve: (key, path) => {
      const resolved = resolvePath(path, dirname(file), env);
      return 'path' in resolved ? resolved.path : refuse(key, resolved.allowed);
    },
  });
  return { config, warnings };
}

/** Reads and parses a config file. @throws AccelError ERR_ACCEL_FILE, ERR_ACCEL_CONFIG */
export async function readBenchmarkConfig(path: string): Promise<ParsedConfig> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw fileError(
      `Cannot read the benchmark config ${path}: ${messageOf(error)}. Check --cfg-path.`,
      error,
    );
  }
  return parseBenchmarkConfig(text, path);
}

function check(schema: z.ZodObject, yaml: YamlText): void {
  const parsed = schema.safeParse(yaml.value);
  if (parsed.success) return;
  const problems = describeProblems(parsed.error, schema, yaml.value);
  throw configError(
    problems.map(({ path, text }) => `${yaml.where(path)}: ${text}`).join('\n'),
    parsed.error,
  );
}

function unknownKeys(yaml: YamlText, { schema }: ConfigReader): string[] {
  const known = Object.keys(schema.shape);
  return Object.keys(yaml.value as object)
    .filter((key) => !known.includes(key))
    .map((key) => {
      const hint = suggest(key, known);
      const advice = hint === '' ? ` Known keys: ${known.join(', ')}.` : hint;
      return `${yaml.where([key], true)}: unknown key ${key} is ignored.${advice}`;
    });
}
