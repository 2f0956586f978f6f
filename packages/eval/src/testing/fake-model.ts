import type { Model, Receipt, Tokenizer } from '@accel/core';

/** What a fake model does on a prompt. */
export interface FakeBehaviour {
  readonly path: string;
  /** The text generated for a prompt. */
  answer(prompt: string): string;
  readonly hasChatTemplate?: boolean;
  /** Called when a sequence starts its prefill. */
  onAppend?(): void;
}

/**
 * Stands in for the engine where only the runner is tested: tokens are words, answers are given. Everything that
 * the runner asks a model for is here and nothing else.
 */
export function fakeModel(behaviour: FakeBehaviour): { model: Model; live: () => number } {
  const vocabulary: string[] = ['<s>'];
  const ids = new Map<string, number>([['<s>', 0]]);
  let live = 0;
  const tokenizer: Tokenizer = {
    hasChatTemplate: behaviour.hasChatTemplate ?? false,
    encode: (text: string, options?: { addSpecial?: boolean }) => {
      const words = text.match(/\s*\S+|\s+$/g) ?? [];
      const tokens = words.map((word) => {
        const id = ids.get(word) ?? vocabulary.push(word) - 1;
        ids.set(word, id);
        return id;
      });
      return Int32Array.from(options?.addSpecial === false ? tokens : [0, ...tokens]);
    },
    decode: (tokens: ArrayLike<number>) => Array.from(tokens, (id) => vocabulary[id]).join(''),
    chat: (messages: readonly { content: string }[]) =>
      `<s><user>${messages[0]?.content ?? ''}<assistant>`,
  } as unknown as Tokenizer;

  const sequence = (): unknown => {
    live++;
    let prompt: number[] = [];
    let decoded = 0;
    return {
      append: (tokens: ArrayLike<number>) => {
        behaviour.onAppend?.();
        prompt = Array.from(tokens);
        return Promise.resolve();
      },
      async *generate({ maxTokens }: { maxTokens: number }) {
        const words = behaviour.answer(tokenizer.decode(prompt)).split(/(?= )/);
        for (const [index, text] of words.slice(0, maxTokens).entries()) {
          await Promise.resolve();
          decoded = index;
          yield { id: 0, text, index };
        }
      },
      receipt: (): Receipt =>
        ({
          layers: [{ rowsIn: [prompt.length, prompt.length], rowsKept: [10, 20] }],
          kv: { measuredBytes: 4096, arithmeticBytes: 4000, fullBytes: 8 * prompt.length },
          tokens: { prefill: prompt.length, decode: decoded },
          seconds: { prefill: 2, decode: decoded * 0.5 },
          kernels: { attention: 1 },
          fallbacks: [],
        }) as unknown as Receipt,
      dispose: () => live--,
    };
  };
  const model = {
    path: behaviour.path,
    spec: { name: 'fake', contextLength: 4096 },
    device: { info: { id: 'cpu' } },
    dtype: 'float32',
    tokenizer,
    sequence,
  } as unknown as Model;
  return { model, live: () => live };
}
