import type { Tokenizer } from '@accel/core';
import { isNoTemplateTask } from '../config.js';
import type { TemplateMode } from '../config.js';
import type { PromptMeter, RulerSample } from '../ruler/types.js';

/** How the prompts of one cell are measured and encoded. */
export interface PromptFormat extends PromptMeter {
  /** The token ids of a sample's prompt. */
  encode(sample: Pick<RulerSample, 'input' | 'answerPrefix'>): Int32Array;
}

/**
 * The prompt of a cell: raw with the tokenizer's special tokens, or through the chat template, whose own text has
 * them. Either way the answer prefix comes last, after the assistant header.
 */
export function promptFormat(
  tokenizer: Tokenizer,
  config: { readonly template: TemplateMode; readonly noTemplateTasks: 'all' | readonly string[] },
  cellId: string,
): PromptFormat {
  const raw =
    config.template === 'none' || !tokenizer.hasChatTemplate || isNoTemplateTask(config, cellId);
  const wrap = raw
    ? (text: string) => text
    : (text: string) =>
        tokenizer.chat([{ role: 'user', content: text }], { addGenerationPrompt: true });
  return {
    countTokens: (text) => tokenizer.encode(text, { addSpecial: false }).length,
    wrap,
    encode: ({ input, answerPrefix }) =>
      tokenizer.encode(wrap(input) + answerPrefix, { addSpecial: raw }),
  };
}
