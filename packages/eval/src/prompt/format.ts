import { chatPrompt, type ChatMessage, type ModelSpec, type Tokenizer } from '@accel/core';
import type { EvalSample, EvalTask, QuestionSample } from '../benchmark/types.js';
import type { TemplateMode } from '../config/types.js';
import { configError } from '../errors.js';
import type { Prompt, PromptTurn } from '../execute/types.js';
import { cutMiddle } from './cut.js';
import { TokenMeter } from './meter.js';
import type { Mode } from './modes.js';
import { isNoTemplateTask } from '../config/no-template.js';

/** The part of a model that prompts are made with. */
export interface PromptModel {
  readonly tokenizer: Tokenizer;
  readonly spec: Pick<ModelSpec, 'name' | 'contextLength' | 'eosTokenIds'>;
}

/** How prompts of a run are made. */
export interface PromptOptions {
  readonly template: TemplateMode;
  readonly noTemplateTasks: 'all' | readonly string[];
  /** Longer prompts are cut in the middle. Default: what the model's window leaves beside the answer. */
  readonly maxLength?: number | undefined;
}

const HEADER = { addGenerationPrompt: true } as const;
/** New tokens of the first answer in the mode `second-turn`. */
const FIRST_ANSWER = 32;
/** Stands for an answer, or for text in front, where only what follows is wanted. */
const ANCHOR = 'Understood';

/** The meters that the tasks of a run share, so that a book is encoded once for all of them. */
export interface Meters {
  readonly raw: TokenMeter;
  readonly chat: TokenMeter;
}

/** Makes the meters of a model. */
export function metersOf({ tokenizer }: PromptModel): Meters {
  return {
    raw: new TokenMeter(tokenizer, (text) => text),
    chat: new TokenMeter(tokenizer, (text) =>
      tokenizer.chat([{ role: 'user', content: text }], HEADER),
    ),
  };
}

/** A prompt, and how long it was if it had to be cut. */
export interface MadePrompt {
  readonly prompt: Prompt;
  readonly cutFrom?: number | undefined;
}

/**
 * Makes the prompts of one task: raw with the tokenizer's special tokens, or through the chat template, whose own text
 * has them. Either way the answer prefix comes last, after the assistant's header.
 */
export class PromptFormat {
  readonly meter: TokenMeter;
  readonly #model: PromptModel;
  readonly #task: EvalTask;
  readonly #raw: boolean;
  readonly #stopIds: readonly number[];
  readonly #most: number;

  constructor(model: PromptModel, options: PromptOptions, task: EvalTask, meters: Meters) {
    const { tokenizer, spec } = model;
    this.#model = model;
    this.#task = task;
    this.#raw =
      options.template === 'none' ||
      !tokenizer.hasChatTemplate ||
      isNoTemplateTask(options, task.id);
    this.meter = this.#raw ? meters.raw : meters.chat;
    this.#stopIds = this.#raw
      ? spec.eosTokenIds
      : chatPrompt(tokenizer, spec, [{ role: 'user', content: ANCHOR }], HEADER).stopIds;
    this.#most = Math.min(
      options.maxLength ?? Infinity,
      task.length ?? Infinity,
      spec.contextLength - task.maxNewTokens,
    );
  }

  /** The prompt of a sample in a mode. */
  make(sample: EvalSample, mode: Mode): MadePrompt {
    const shared = { stopIds: this.#stopIds, stop: this.#task.stop ?? [] };
    if (sample.kind === 'text') {
      const ids = Int32Array.from([...this.meter.encodeRaw(''), ...sample.context]);
      const turn = { text: this.meter.decode(sample.context), ids, answer: 0 };
      return { prompt: { ...shared, turns: [turn], target: sample.target } };
    }
    const { sample: cut, cutFrom } = cutMiddle(sample, this.meter, this.#most);
    const prompt = { ...shared, turns: this.#turns(cut, mode) };
    return cutFrom === undefined ? { prompt } : { prompt, cutFrom };
  }

  #turns(sample: QuestionSample, mode: Mode): readonly PromptTurn[] {
    const { context, question, answerPrefix } = sample;
    const answer = this.#task.maxNewTokens;
    switch (mode) {
      case 'query-aware':
        return [this.#turn(context + question, answerPrefix, answer)];
      case 'query-agnostic':
        return this.#split(this.#turn(context + question, answerPrefix, answer), question);
      case 'second-turn':
        return [
          this.#turn(context + sample.firstQuestion, '', Math.min(answer, FIRST_ANSWER)),
          this.#next(context + sample.firstQuestion, question, answerPrefix, answer),
        ];
    }
  }

  #turn(user: string, answerPrefix: string, answer: number): PromptTurn {
    const text = this.meter.wrap(user) + answerPrefix;
    const ids = this.#raw ? this.meter.encodeRaw(text) : this.meter.encode(text);
    return { text, ids, answer, answerPrefix, ...(!this.#raw && { user }) };
  }

  /**
   * A prompt in two turns, cut where the question begins. The ids are those of the whole, so that nothing but the moment
   * of compression differs; a token across the border goes to the question.
   */
  #split(whole: PromptTurn, question: string): readonly PromptTurn[] {
    const asked = question.trim();
    const at = asked === '' ? -1 : whole.text.lastIndexOf(asked);
    if (at < 0) {
      throw configError(
        `The prompt of ${this.#task.id} has no question apart from its text, so it cannot be asked query-agnostically. Leave the task or the mode out.`,
      );
    }
    const border = at - (question.length - question.trimStart().length);
    const head = whole.text.slice(0, border);
    const headIds = this.#raw ? this.meter.encodeRaw(head) : this.meter.encode(head);
    const cut = commonStart(headIds, whole.ids);
    const { text, ids, answer, answerPrefix } = whole;
    return [
      { text: text.slice(0, border), ids: ids.slice(0, cut), answer: 0 },
      { text: text.slice(border), ids: ids.slice(cut), answer, answerPrefix: answerPrefix ?? '' },
    ];
  }

  /** The user's next message behind an answer that is not known yet. */
  #next(before: string, question: string, answerPrefix: string, answer: number): PromptTurn {
    const user = question.trimStart();
    if (this.#raw) {
      const text = `\n${user}${answerPrefix}`;
      return { text, ids: this.#behind(text), answer, answerPrefix };
    }
    const rendered = this.#render([
      { role: 'user', content: before },
      { role: 'assistant', content: ANCHOR },
      { role: 'user', content: user },
    ]);
    const at = rendered.lastIndexOf(ANCHOR);
    const text = rendered.slice(at + ANCHOR.length) + answerPrefix;
    return { text, ids: this.#behind(text), answer, user, answerPrefix };
  }

  /** Ids of a text that continues another: some tokenizers put a space in front of a text that begins. */
  #behind(text: string): Int32Array {
    const anchor = this.meter.encode(ANCHOR);
    const both = this.meter.encode(ANCHOR + text);
    return commonStart(anchor, both) === anchor.length
      ? both.slice(anchor.length)
      : this.meter.encode(text);
  }

  #render(messages: readonly ChatMessage[]): string {
    return this.#model.tokenizer.chat(messages, HEADER);
  }
}

function commonStart(a: Int32Array, b: Int32Array): number {
  const most = Math.min(a.length, b.length);
  for (let i = 0; i < most; i++) if (a[i] !== b[i]) return i;
  return most;
}
