import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LineCounter, parseDocument } from 'yaml';
import type { Document } from 'yaml';
import { z } from 'zod';
import { configError, fileError, messageOf } from './errors.js';
import { RULER_TASKS, rulerTask } from './ruler/tasks.js';

const positive = z.number().int().positive();
const names = z.array(z.string().min(1)).min(1);

/** Lets a list of one be written without brackets; a union would report neither branch's problem. */
function listOf<T extends z.ZodType>(item: T): z.ZodType<z.infer<T>[] | undefined> {
  const list = z.array(item).min(1).optional();
  return z.preprocess((value) => (value === undefined ? undefined : [value].flat()), list);
}

const schema = z.strictObject({
  benchmark_name: z.literal('RULER'),
  task_names: names.optional(),
  length: listOf(positive).optional(),
  num_samples: positive.optional(),
  no_template_tasks: z.preprocess(
    (value) => (value === 'all' ? [value] : value),
    z.array(z.string().min(1)).optional(),
  ),
  template: z.enum(['auto', 'model', 'default', 'none']).nullable().optional(),
  tokens_to_generate: z.enum(['ruler', 'loom']).optional(),
  worked_example: z.boolean().optional(),
  essay_path: z.string().min(1).optional(),
  words_path: z.string().min(1).optional(),
  punkt_path: z.string().min(1).optional(),
  seed: z.number().int().min(0).max(0xffffffff).optional(),
  // Accepted because the seed toolkit's files carry it; data is always generated here.
  build_data: z.boolean().optional(),
});

/**
 * Whether prompts go through the model's chat template: `auto` if it has one, `model` always (an error if it has
 * none), `none` never.
 */
export type TemplateMode = 'auto' | 'model' | 'none';

/** What a benchmark config says, defaults filled in. */
export interface BenchmarkConfig {
  readonly benchmark: 'RULER';
  /** Default: every task of this version. */
  readonly tasks: readonly string[];
  /** Default: 4096. */
  readonly lengths: readonly number[];
  /** Samples of each task at each length. Default: 50, as in the seed toolkit. */
  readonly samples: number;
  readonly template: TemplateMode;
  /** Tasks prompted raw whatever `template` says: lower-case parts of `<task>_<length>`, or all. */
  readonly noTemplateTasks: 'all' | readonly string[];
  /** Limits on new tokens. Default: `ruler`. */
  readonly tokensToGenerate: 'ruler' | 'loom';
  /**
   * Whether `vt` prompts begin with RULER's worked example. Small models that never saw one confuse its names with
   * the question's. Default: true; without it scores are not RULER's.
   */
  readonly workedExample: boolean;
  /** Default: 42. */
  readonly seed: number;
  /** Absolute; relative paths in a file are taken from the file's folder. */
  readonly essayPath?: string;
  readonly wordsPath?: string;
  readonly punktPath?: string;
}

/**
 * Parses a benchmark config in the seed toolkit's YAML form. `template: NULL` means raw prompts, as there; leaving
 * `template` out means `auto`.
 *
 * @param file names the text in errors; relative paths in it are resolved from its folder
 * @throws AccelError ERR_ACCEL_CONFIG with `file:line:column` and what to do
 */
export function parseBenchmarkConfig(text: string, file = 'config.yaml'): BenchmarkConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [problem] = document.errors;
  if (problem !== undefined) {
    throw configError(
      `${where(file, lines, problem.pos[0])}: not valid YAML: ${problem.message}`,
      problem,
    );
  }
  const parsed = schema.safeParse(document.toJS());
  if (!parsed.success) {
    const reports = parsed.error.issues.map((issue) => {
      const unknown = issue.code === 'unrecognized_keys' ? issue.keys : [];
      const path = [...issue.path, ...unknown.slice(0, 1)];
      const message =
        unknown.length > 0
          ? `unknown key ${unknown.join(', ')}; known keys: ${Object.keys(schema.shape).join(', ')}`
          : `${issue.path.join('.')}: ${issue.message}`;
      return `${where(file, lines, offsetOf(document, path))}: ${message}`;
    });
    throw configError(reports.join('\n'), parsed.error);
  }
  const config = parsed.data;
  for (const [i, name] of (config.task_names ?? []).entries()) {
    try {
      rulerTask(name);
    } catch (error) {
      throw configError(
        `${where(file, lines, offsetOf(document, ['task_names', i]))}: ${messageOf(error)}`,
        error,
      );
    }
  }
  const from = (path: string): string => resolve(dirname(file), path);
  return {
    benchmark: 'RULER',
    tasks: unique(config.task_names ?? RULER_TASKS.map((task) => task.name)),
    lengths: unique(config.length ?? [4096]),
    samples: config.num_samples ?? 50,
    template: templateMode(config.template),
    noTemplateTasks: noTemplate(config.no_template_tasks),
    tokensToGenerate: config.tokens_to_generate ?? 'ruler',
    workedExample: config.worked_example ?? true,
    seed: config.seed ?? 42,
    ...(config.essay_path !== undefined && { essayPath: from(config.essay_path) }),
    ...(config.words_path !== undefined && { wordsPath: from(config.words_path) }),
    ...(config.punkt_path !== undefined && { punktPath: from(config.punkt_path) }),
  };
}

/** Reads and parses a config file. @throws AccelError ERR_ACCEL_FILE, ERR_ACCEL_CONFIG */
export async function readBenchmarkConfig(path: string): Promise<BenchmarkConfig> {
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

/**
 * The path of a config that ships with this package: `ruler` (every default spelled out), `loom` (the seed
 * toolkit's run), or `needle` (for the embedded model).
 */
export function shippedConfig(name: 'ruler' | 'loom' | 'needle'): string {
  return fileURLToPath(new URL(`../configs/${name}.yaml`, import.meta.url));
}

/** Whether a task is prompted raw by `no_template_tasks`. */
export function isNoTemplateTask(
  config: Pick<BenchmarkConfig, 'noTemplateTasks'>,
  taskId: string,
): boolean {
  const list = config.noTemplateTasks;
  return list === 'all' || list.some((name) => taskId.toLowerCase().includes(name.toLowerCase()));
}

function templateMode(template: z.infer<typeof schema>['template']): TemplateMode {
  if (template === undefined) return 'auto';
  // The seed toolkit's names for "as it is": NULL, and the function called `default`.
  return template === null || template === 'default' ? 'none' : template;
}

function noTemplate(list: readonly string[] = []): 'all' | readonly string[] {
  return list.includes('all') ? 'all' : list;
}

function unique<T>(items: readonly T[]): T[] {
  return [...new Set(items)];
}

/** The source offset of the deepest node on `path` that exists; of a key if the last step names one. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const steps = path.slice(0, depth);
    const node: unknown = depth === 0 ? document.contents : document.getIn(steps, true);
    if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)) {
      return Number(node.range[0]);
    }
  }
  return 0;
}

function where(file: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}:${line}:${col}`;
}
