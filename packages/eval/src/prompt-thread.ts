/** The thread that makes prompts: an entry of its own, started by prompt/thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { AccelError, readCheckpoint } from '@accel/core';
import { openBenchmark } from './benchmark/open.js';
import { configError, messageOf } from './errors.js';
import { PromptMaker, type PromptRequest } from './prompt/maker.js';
import type { ThreadReply, ThreadStart } from './prompt/thread.js';

const { config, modelPath, contextLength, options } = workerData as ThreadStart;

async function start(): Promise<PromptMaker> {
  const [benchmark, { blueprint, tokenizer }] = await Promise.all([
    openBenchmark(config),
    readCheckpoint(modelPath),
  ]);
  if (tokenizer === undefined)
    throw configError(`${modelPath} has no tokenizer to make prompts with.`);
  return new PromptMaker(
    benchmark,
    { tokenizer, spec: { ...blueprint.spec, contextLength } },
    options,
  );
}

const maker = start();
maker.catch(() => undefined); // every request reports it

async function answer(id: number, request: PromptRequest): Promise<ThreadReply> {
  try {
    return { id, prepared: await (await maker).prepare(request) };
  } catch (error) {
    const code = AccelError.isInstance(error) ? { code: error.code } : {};
    return { id, error: { ...code, message: messageOf(error) } };
  }
}

parentPort?.on('message', ({ id, request }: { id: number; request: PromptRequest }) => {
  void answer(id, request).then((reply) => parentPort?.postMessage(reply));
});
