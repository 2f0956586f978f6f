import type { Model, Tokenizer } from '@accel/core';
import type { Answer, Executor, Job, Outcome } from '../execute/types.js';
import type { Subject } from '../runner/subject.js';

/** What a fake model does on a prompt. */
export interface FakeBehaviour {
  /** The text generated for a prompt. */
  answer(prompt: string): string;
  /** Default false. */
  readonly hasChatTemplate?: boolean;
  /** Called with each batch before it is answered; what it throws or gives back takes the place of the answers. */
  onBatch?(jobs: readonly Job[]): Promise<Outcome[] | undefined> | undefined;
  readonly batchSize?: number;
  readonly slots?: number;
  /** Digest of the model's files. Default `files`. */
  readonly files?: string;
}

/** A tokenizer whose tokens are words. */
export function wordTokenizer(hasChatTemplate = false): Tokenizer {
  const vocabulary: string[] = ['<s>'];
  const ids = new Map<string, number>([['<s>', 0]]);
  return {
    hasChatTemplate,
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
    chat: (messages: readonly { role: string; content: string }[]) =>
      `<s>${messages.map(({ role, content }) => ` <${role}> ${content}`).join(' </end>')} <assistant>`,
  } as unknown as Tokenizer;
}

/** Stands in for a model where only the runner is tested: tokens are words, answers are given. */
export function fakeModel(behaviour: FakeBehaviour): { subject: Subject; executor: Executor } {
  const tokenizer = wordTokenizer(behaviour.hasChatTemplate);
  const answer = ({ prompt }: Job): Answer => {
    const tokens = prompt.turns.reduce((sum, { ids }) => sum + ids.length, 0);
    const prediction = behaviour.answer(
      prompt.turns.map(({ ids }) => tokenizer.decode(ids)).join(''),
    );
    return {
      prediction,
      promptTokens: tokens,
      newTokens: 3,
      finish: 'eos',
      prefillSeconds: 2,
      decodeTokens: 2,
      decodeSeconds: 1,
      receipt: {
        rowsIn: tokens,
        rowsStored: 15,
        layerRows: [10, 20],
        kv: { measuredBytes: 4096, arithmeticBytes: 4000, fullBytes: 8 * tokens },
        acted: {},
        fallbacks: [],
        kernels: { attention: 1 },
      },
    };
  };
  return {
    subject: {
      path: 'fake',
      tokenizer,
      spec: { name: 'fake', contextLength: 4096, eosTokenIds: [] },
      files: behaviour.files ?? 'files',
      device: 'cpu',
      dtype: 'float32',
      devices: ['cpu fake'],
    } satisfies Omit<Subject, 'spec'> & { spec: Partial<Model['spec']> },
    executor: {
      slots: behaviour.slots ?? 1,
      batchSize: behaviour.batchSize ?? 1,
      run: async (jobs) => {
        const instead = await behaviour.onBatch?.(jobs);
        return instead ?? jobs.map((job) => ({ answer: answer(job) }));
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
  };
}
