import process from 'node:process';
import { AccelError, type Model } from '@accel/core';
import {
  modelExecutor,
  modelSubject,
  serveParent,
  serveQueue,
  type OpenExecutor,
} from '@accel/eval';
import { Command, Option } from 'commander';
import { UsageError } from '../errors.js';
import { listSnakeCase } from '../help.js';
import type { Io } from '../io.js';
import { openModel } from '../model.js';
import { numberOption, parseDevice, parseDtype, type DtypeName } from '../values.js';
import { readMethods } from '../worker/methods.js';

interface WorkerCliOptions {
  queue?: string;
  ipc?: boolean;
  modelPath?: string;
  device?: string[];
  torchDtype: DtypeName;
  sharedBy?: number;
}

/** `accel worker`: answers the prompts of evaluations that run elsewhere. */
export function workerCommand(io: Io): Command {
  const command = new Command('worker')
    .summary('answer prompts of accel eval --queue, on any machine')
    .description(
      'Answer the prompts of evaluations that run elsewhere, with a model of this machine.\n' +
        'Takes work from a queue on Redis or Valkey that is meant for the same model files and number format.\n' +
        'Methods, batch size and strictness come with the work. SIGTERM finishes the batch, Ctrl-C gives it back.',
    )
    .option('--queue <url>', 'redis://[user:password@]host[:port], rediss:// for TLS')
    .option(
      '--model-path <model>',
      'folder, .gguf file, or org/name of accel pull (default: the embedded needle model)',
    )
    .option('--device <id...>', 'cpu, cuda or cuda:N (a number N means cuda:N)')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .addOption(new Option('--ipc', 'work for the process that started this one').hideHelp())
    .addOption(
      new Option('--shared-by <n>', 'models that share the device')
        .argParser(numberOption('--shared-by', { min: 1, integer: true }))
        .hideHelp(),
    )
    .action((options: WorkerCliOptions) => runWorker(io, options));
  return listSnakeCase(command);
}

async function runWorker(io: Io, options: WorkerCliOptions): Promise<void> {
  const load = (): Promise<Model> =>
    openModel(io, {
      path: options.modelPath,
      device: parseDevice(options.device),
      dtype: options.torchDtype,
      sharedBy: options.sharedBy,
    });
  if (options.ipc === true) {
    // Loaded when the order is there, so that what goes wrong is told to the parent.
    await serveParent(async (order) => answerWith(await load())(order));
  } else if (options.queue !== undefined) {
    using model = await load();
    await serve(io, options.queue, model);
  } else {
    throw new UsageError('--queue says where the work comes from, such as redis://localhost:6379.');
  }
}

async function serve(io: Io, url: string, model: Model): Promise<void> {
  const finish = new AbortController();
  const onTerm = (): void => finish.abort();
  process.once('SIGTERM', onTerm);
  try {
    const { files, dtype } = await modelSubject(model);
    await serveQueue({
      url,
      model: { name: model.spec.name, files, dtype },
      open: answerWith(model),
      finish: finish.signal,
      stop: io.signal,
      onMessage: (message) => io.stderr.write(`${message}\n`),
    });
  } finally {
    process.off('SIGTERM', onTerm);
  }
  if (io.signal.aborted) throw new AccelError('ERR_ACCEL_ABORTED', 'The worker was stopped.');
}

function answerWith(model: Model): OpenExecutor {
  return async (order) => {
    const { batchSize, strict } = order;
    return modelExecutor({ model, methods: await readMethods(order), batchSize, strict });
  };
}
