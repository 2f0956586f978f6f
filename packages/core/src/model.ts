import { AccelError, Device, PagePool, type DType, type Stream } from '@accel/kernels';
import { chat, type ChatGenerateOptions } from './chat/chat.js';
import { chatPrompt, type ChatPrompt } from './chat/prompt.js';
import { ChatSession, type ChatSessionOptions } from './chat/session.js';
import { readCheckpoint } from './checkpoint.js';
import type { ModelSpec } from './config/spec.js';
import { Cleanup } from './engine/cleanup.js';
import { convertWeights } from './engine/convert.js';
import { defaultChunkTokens, pageBytesOf } from './engine/defaults.js';
import { Lock } from './engine/lock.js';
import { RopeCache } from './engine/rope.js';
import type { Runtime } from './engine/runtime.js';
import { Workspace } from './engine/workspace.js';
import type { TokenEvent } from './generate.js';
import { bindWeights } from './models/bind.js';
import { restoreSequence, type RestoreOptions } from './saved/restore.js';
import { Sequence, type SequenceOptions } from './sequence.js';
import type { ChatMessage, ChatOptions, Tokenizer } from './tokenizer/tokenizer.js';

/** Float formats a model can compute in. */
export type ComputeDType = 'float32' | 'bfloat16' | 'float16';

/** Options of {@link loadModel}. */
export interface LoadModelOptions {
  /** Device id as listed by `devices()`. Default `'cpu'`. */
  device?: string;
  /**
   * Format of activations, cache and weights; sums are always float32. `'auto'` takes the checkpoint's, and bfloat16 for a
   * GGUF file with quantised weights. Default `'auto'`.
   */
  dtype?: 'auto' | ComputeDType;
  /** Most bytes the KV cache of all sequences may take. Default: half of the device's free memory. */
  kvBytes?: number;
  /** Prompt tokens that go through a layer together; more needs more scratch memory. Default 512, on a GPU 8192. */
  chunkTokens?: number;
  /**
   * Positions that may be used. Default: what the model was made for, rotary scaling included. More is allowed and runs,
   * but the model has never seen such positions.
   */
  contextLength?: number;
  /** Look for NaN and infinity in the weights. Default true. */
  checkWeights?: boolean;
  /** Called as weights become ready. */
  onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void;
  /** Stops loading with `ERR_ACCEL_ABORTED`; everything loaded so far is released. */
  signal?: AbortSignal;
}

/**
 * A model on a device: weights, tokenizer and the page pool that its sequences share. It holds no state of any
 * sequence.
 */
export class Model implements Disposable {
  readonly spec: ModelSpec;
  /** False for weights alone: token ids go in and out, but no text. */
  readonly hasTokenizer: boolean;
  /** Folder or GGUF file the model was loaded from. */
  readonly path: string;
  /** @internal */ readonly runtime: Runtime;
  readonly #tokenizer: Tokenizer | undefined;
  readonly #release: () => void;
  #disposed = false;

  /** @internal Use {@link loadModel}. */
  constructor(
    path: string,
    tokenizer: Tokenizer | undefined,
    runtime: Runtime,
    release: () => void,
  ) {
    this.path = path;
    this.spec = runtime.spec;
    this.#tokenizer = tokenizer;
    this.hasTokenizer = tokenizer !== undefined;
    this.runtime = runtime;
    this.#release = release;
  }

  /** @throws AccelError `ERR_ACCEL_TOKENIZER` when the checkpoint has none */
  get tokenizer(): Tokenizer {
    if (this.#tokenizer !== undefined) return this.#tokenizer;
    throw new AccelError(
      'ERR_ACCEL_TOKENIZER',
      `${this.path} has no tokenizer, so this model works with token ids only. Put the checkpoint's tokenizer.json beside its config.json, or take a GGUF file with a vocabulary.`,
    );
  }

  get device(): Device {
    return this.runtime.device;
  }

  get stream(): Stream {
    return this.runtime.stream;
  }

  /** Format of activations and cache. */
  get dtype(): DType {
    return this.runtime.dtype;
  }

  /** Pages of all sequences' caches. */
  get pool(): PagePool {
    return this.runtime.pool;
  }

  /** A new, empty sequence. Its cache and everything its policy remembers belong to it alone. */
  sequence(options: SequenceOptions = {}): Sequence {
    this.#assertUsable();
    return new Sequence(this, options);
  }

  /**
   * A sequence that {@link Sequence.save} wrote, which goes on exactly where that one was. The device may be another one; the
   * model and its dtype must be the same. The file is not trusted: everything in it is checked before it is used.
   * @throws AccelError `ERR_ACCEL_SAVED_SEQUENCE` when the file is damaged or does not fit the model or the policy,
   *   `ERR_ACCEL_FILE`, `ERR_ACCEL_POLICY`, `ERR_ACCEL_METHOD_UNKNOWN`, `ERR_ACCEL_OUT_OF_MEMORY`, `ERR_ACCEL_ABORTED`
   * @example
   * const sequence = await model.restore('chat.accel', { policy });
   */
  async restore(path: string, options: RestoreOptions = {}): Promise<Sequence> {
    this.#assertUsable();
    return await restoreSequence(this, path, options);
  }

  /**
   * What a conversation becomes before it goes into the model: text, token ids, and the ids that end an answer.
   * @throws AccelError `ERR_ACCEL_TOKENIZER` when the model has no tokenizer or no chat template, or the template
   *   refuses the messages
   */
  prompt(messages: readonly ChatMessage[], options: ChatOptions = {}): ChatPrompt {
    return chatPrompt(this.tokenizer, this.spec, messages, options);
  }

  /**
   * Answers a conversation, token by token, on a sequence of its own. The answer ends with the model's end-of-text ids
   * or the token with which its template ends a message (see {@link ChatPrompt.stopIds}).
   * @throws AccelError those of {@link prompt}, `sequence.append()` and `sequence.generate()`
   * @example
   * for await (const { text } of model.chat([{ role: 'user', content: 'Hello!' }], { maxTokens: 64 })) {
   *   process.stdout.write(text);
   * }
   */
  chat(
    messages: readonly ChatMessage[],
    options: ChatGenerateOptions = {},
  ): AsyncGenerator<TokenEvent, void, undefined> {
    return chat(this, messages, options);
  }

  /** A conversation on one sequence, in which a turn feeds only what is new. Dispose it in the end. */
  session(options: ChatSessionOptions = {}): ChatSession {
    this.#assertUsable();
    return new ChatSession(this, options);
  }

  #assertUsable(): void {
    if (!this.#disposed) return;
    throw new AccelError(
      'ERR_ACCEL_DISPOSED',
      'The model was disposed. Load it again with loadModel().',
    );
  }

  /** Releases weights, scratch memory and the page pool. Dispose the sequences first. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Loads a Hugging Face model directory (config.json, safetensors, tokenizer.json), or a GGUF file. Weights whose format
 * is already the compute format stay in the memory-mapped file; others are converted once, quantised ones unpacked.
 * @throws AccelError `ERR_ACCEL_FILE`, `ERR_ACCEL_CONFIG`, `ERR_ACCEL_ARCHITECTURE`, `ERR_ACCEL_WEIGHTS`,
 *   `ERR_ACCEL_TOKENIZER`, `ERR_ACCEL_NO_DEVICE`, `ERR_ACCEL_DEVICE_UNAVAILABLE`, `ERR_ACCEL_ABORTED`
 */
export async function loadModel(path: string, options: LoadModelOptions = {}): Promise<Model> {
  const { blueprint, tokenizer, openWeights } = await readCheckpoint(path);
  using cleanup = new Cleanup();
  const files = cleanup.use(openWeights());
  const spec = {
    ...blueprint.spec,
    contextLength: positive('contextLength', options.contextLength ?? blueprint.spec.contextLength),
  };
  const device = Device.open(options.device ?? 'cpu');
  const dtype = computeDType(options.dtype ?? 'auto', spec);
  const { info } = device;
  const gpu = info.kind !== 'cpu';
  const chunkTokens = positive('chunkTokens', options.chunkTokens ?? defaultChunkTokens(info.kind));
  const capacityBytes = positive('kvBytes', options.kvBytes ?? Math.floor(info.memory.free / 2));
  const stream = cleanup.use(device.createStream());
  const weights = await convertWeights(device, stream, bindWeights(files, blueprint), dtype, {
    check: options.checkWeights ?? true,
    ...(options.onProgress && { onProgress: options.onProgress }),
    ...(options.signal && { signal: options.signal }),
  });
  cleanup.use(weights);
  const pageBytes = pageBytesOf(spec, dtype);
  const pool = cleanup.use(new PagePool(stream, { pageBytes, capacityBytes }));
  const workspace = cleanup.use(new Workspace(device));
  const rope = cleanup.use(new RopeCache(spec, device));
  const runtime: Runtime = {
    device,
    stream,
    pool,
    spec,
    weights,
    dtype,
    workspace,
    rope,
    runsAhead: gpu,
    chunkTokens,
    lock: new Lock(),
  };
  return new Model(path, tokenizer, runtime, cleanup.move());
}

function computeDType(asked: 'auto' | ComputeDType, spec: ModelSpec): ComputeDType {
  return asked === 'auto' ? spec.dtype : asked;
}

function positive(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `${name} is ${String(value)}; give a whole number above 0.`,
  );
}
