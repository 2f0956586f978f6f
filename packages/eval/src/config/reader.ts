import type { z } from 'zod';
import { CHAT_NAMES } from './fields.js';
import type { BenchmarkConfig, CommonConfig, TemplateMode } from './types.js';

/** What a reader can tell and ask while it makes a config of checked values. */
export interface ReadContext {
  /** Adds a warning about a key. */
  warn(key: string, message: string): void;
  /**
   * The keys contradict each other.
   * @throws AccelError ERR_ACCEL_CONFIG
   */
  refuse(key: string, allowed: string): never;
  /**
   * The absolute path that a key's path stands for.
   * @throws AccelError ERR_ACCEL_CONFIG when it names a data set that is not there
   */
  resolve(key: string, path: string): string;
}

/** How the config of one benchmark is read. */
export interface ConfigReader {
  readonly schema: z.ZodObject;
  /** @param fields values that the schema allows */
  build(fields: unknown, context: ReadContext): BenchmarkConfig;
}

/** Ties the schema of a benchmark's keys to what is made of their values. */
export function configReader<S extends z.ZodObject>(
  schema: S,
  build: (fields: z.infer<S>, context: ReadContext) => BenchmarkConfig,
): ConfigReader {
  return { schema, build: (fields, context) => build(fields as z.infer<S>, context) };
}

/** A config without the values that were not given, so that defaults stand in for them. */
export function given<T extends object>(values: { readonly [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as unknown as T;
}

/** The value of the one key of several names that is there. */
export function oneOf<F, K extends keyof F & string>(
  fields: F,
  keys: readonly K[],
  context: ReadContext,
): F[K] | undefined {
  const [first, second] = keys.filter((key) => fields[key] !== undefined);
  if (second !== undefined) {
    context.refuse(second, `one of ${keys.join(', ')}; ${first} is there too`);
  }
  return first === undefined ? undefined : fields[first];
}

/** Absolute paths of the keys that are there. */
export function readPaths<C extends string, K extends string>(
  fields: Readonly<Partial<Record<K, unknown>>>,
  keys: Readonly<Record<C, K>>,
  context: ReadContext,
): Partial<Record<C, string>> {
  const found: Partial<Record<C, string>> = {};
  for (const [name, key] of Object.entries(keys) as [C, K][]) {
    const path = fields[key];
    if (typeof path === 'string') found[name] = context.resolve(key, path);
  }
  return found;
}

interface AskedFields {
  readonly template?: string | null | undefined;
  readonly chat_model?: string | null | undefined;
  readonly no_template_tasks?: string | readonly string[] | null | undefined;
}

type Asked = Partial<Pick<CommonConfig, 'template' | 'noTemplateTasks'>>;

/** How prompts are put to the model. */
export function readTemplate(fields: AskedFields, context: ReadContext): Asked {
  const template = oneOf(fields, ['template', 'chat_model'], context);
  if (typeof template === 'string' && CHAT_NAMES.includes(template)) {
    context.warn(
      fields.template === undefined ? 'chat_model' : 'template',
      `${template} is read as "model": prompts go through the chat template that the model brings, not through the seed toolkit's ${template}`,
    );
  }
  return given<Asked>({
    template: template === undefined ? undefined : templateMode(template),
    noTemplateTasks: readNoTemplateTasks(fields.no_template_tasks),
  });
}

function templateMode(template: string | null): TemplateMode {
  if (template === 'auto' || template === 'none') return template;
  // The seed toolkit's names for prompts as they are: NULL, and the function called `default`.
  return template === null || template === 'default' ? 'none' : 'model';
}

function readNoTemplateTasks(
  tasks: AskedFields['no_template_tasks'],
): 'all' | readonly string[] | undefined {
  if (tasks === undefined) return undefined;
  const list = tasks === null ? [] : [tasks].flat();
  return list.includes('all') ? 'all' : list;
}
