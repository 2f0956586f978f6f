import { z } from 'zod';
import { MODES, type Mode } from '../prompt/modes.js';

/** A text that is not empty. */
export const text: z.ZodString = z.string().min(1);

/** 1, 2, 3, … */
export const count: z.ZodInt = z.int().positive();

/** A list; one item may stand without brackets. */
export type ListOf<T extends z.ZodType> = z.ZodUnion<readonly [T, z.ZodArray<T>]>;

/** A list, which may be written without brackets when it has one item. */
export function listOf<T extends z.ZodType>(item: T): ListOf<T> {
  return z.union([item, z.array(item).min(1)]);
}

/** Both ways to write a list as a list without repetitions. */
export function listed<T extends string | number>(
  value: T | readonly T[] | undefined,
): readonly T[] | undefined {
  return value === undefined ? undefined : [...new Set([value].flat() as T[])];
}

/** How many samples are drawn, and from which seed. */
export const drawn: {
  readonly num_samples: z.ZodOptional<z.ZodInt>;
  readonly seed: z.ZodOptional<z.ZodInt>;
} = {
  num_samples: count.optional(),
  seed: z.int().min(0).max(0xffffffff).optional(),
};

/** Lengths in tokens, under the names of the seed toolkit's benchmarks. */
export const lengthKeys: Readonly<Record<'length' | 'lengths', z.ZodOptional<ListOf<z.ZodInt>>>> = {
  length: listOf(count).optional(),
  lengths: listOf(count).optional(),
};

/**
 * Names of functions in the seed toolkit's `build_chat.py`, each the chat template of a family of models. Here the
 * template comes with the model.
 */
export const CHAT_NAMES: readonly string[] = [
  ...['llama2', 'llama3', 'qwen', 'qwen3', 'glm4', 'chatglm', 'chatglm3', 'Mistral', 'mistral'],
  ...['longchat', 'vicuna', 'xgen', 'internlm', 'phi', 'deepseek'],
];

type ChatName = z.ZodNullable<z.ZodEnum<Readonly<Record<string, string>>>>;

const template: ChatName = z.enum(['auto', 'model', 'none', 'default', ...CHAT_NAMES]).nullable();

/** How questions are put to the model. */
export const asked: {
  readonly template: z.ZodOptional<ChatName>;
  readonly chat_model: z.ZodOptional<ChatName>;
  readonly no_template_tasks: z.ZodOptional<
    z.ZodNullable<z.ZodUnion<readonly [z.ZodString, z.ZodArray<z.ZodString>]>>
  >;
  readonly modes: z.ZodOptional<ListOf<z.ZodEnum<{ [M in Mode]: M }>>>;
} = {
  template: template.optional(),
  // What the seed toolkit called `template` before.
  chat_model: template.optional(),
  no_template_tasks: z
    .union([text, z.array(text)])
    .nullable()
    .optional(),
  modes: listOf(z.enum(MODES)).optional(),
};
