import {
  deviceGroups,
  endpointExecutor,
  processPool,
  queueExecutor,
  remoteSubject,
  type EvalMethod,
  type Executor,
  type Subject,
  type WorkerPlace,
} from '@accel/eval';
import { devices as listDevices } from '@accel/kernels';
import type { Model } from '@accel/core';
import { UsageError } from '../errors.js';
import type { Io } from '../io.js';
import { modelPath, openModel } from '../model.js';
import { parseDevices } from '../values.js';
import { workerCommand } from '../worker/command.js';
import type { EvalCliOptions } from './options.js';

/** Who answers the prompts of a run, as `runEval` takes it. */
export type Answerer = (
  | { readonly model: Model; readonly batchSize: number }
  | { readonly executor: Executor; readonly subject: Subject }
) &
  AsyncDisposable;

/** What of the command line decides who answers. */
export type AnswererChoice = Pick<
  EvalCliOptions,
  | 'modelPath'
  | 'device'
  | 'gpNum'
  | 'torchDtype'
  | 'batchSize'
  | 'retries'
  | 'queue'
  | 'endpoint'
  | 'endpointModel'
  | 'endpointApi'
  | 'strict'
>;

/**
 * Opens who answers: a server, workers of a queue, worker processes where several devices or models share the work, else
 * the model in this process.
 *
 * @param run names the run in a queue: a coordinator that is started again takes over its jobs
 */
export async function openAnswerer(
  io: Io,
  options: AnswererChoice,
  methods: readonly EvalMethod[],
  run: string,
): Promise<Answerer> {
  if (options.endpoint !== undefined && options.queue !== undefined) {
    throw new UsageError('--endpoint and --queue exclude each other: one of them answers.');
  }
  refuseDevices(options);
  const warn = (message: string): void => void io.stderr.write(`${message}\n`);
  if (options.endpoint !== undefined) {
    return openEndpoint(io, options, options.endpoint, methods, warn);
  }
  if (options.queue !== undefined) return openQueue(io, options, options.queue, methods, run, warn);
  const named = parseDevices(options.device);
  const places = placesOf(named.length > 0 ? named : defaultDevices(options), options.gpNum, warn);
  const [only] = places;
  if (places.length === 1 && only !== undefined) return openHere(io, options, only.id);
  const path = await modelPath(io, options.modelPath);
  const subject = await remoteSubject(path, {
    device: only?.id.replace(/:.*$/, '') ?? 'cpu',
    ...(options.torchDtype !== 'auto' && { dtype: options.torchDtype }),
    devices: places.map(({ id }) => id),
    executor: 'processes',
  });
  const { batchSize, strict = false } = options;
  const workers = places.map(({ place }) =>
    workerCommand({ modelPath: path, dtype: options.torchDtype, place }),
  );
  const executor = processPool({
    workers,
    methods,
    batchSize,
    strict,
    onWarning: warn,
    ...retriesOf(options),
  });
  return { executor, subject, [Symbol.asyncDispose]: () => executor[Symbol.asyncDispose]() };
}

/** Where others answer, devices of this machine would silently do nothing. */
function refuseDevices({ endpoint, queue, device, gpNum }: AnswererChoice): void {
  if (endpoint === undefined && queue === undefined) return;
  if (device === undefined && gpNum === '1') return;
  throw new UsageError(
    '--device and --gp-num are about models of this machine; with --queue or --endpoint others answer. Leave them out.',
  );
}

async function openHere(io: Io, options: AnswererChoice, device: string): Promise<Answerer> {
  const model = await openModel(io, {
    path: options.modelPath,
    device,
    dtype: options.torchDtype,
  });
  return {
    model,
    batchSize: options.batchSize,
    [Symbol.asyncDispose]: () => {
      model.dispose();
      return Promise.resolve();
    },
  };
}

async function openQueue(
  io: Io,
  options: AnswererChoice,
  url: string,
  methods: readonly EvalMethod[],
  run: string,
  warn: (message: string) => void,
): Promise<Answerer> {
  const subject = await remoteSubject(await modelPath(io, options.modelPath), {
    // Whatever the workers have: answers of a queue are not tied to a kind of device.
    device: 'queue',
    ...(options.torchDtype !== 'auto' && { dtype: options.torchDtype }),
    devices: [],
    executor: 'queue',
  });
  const { batchSize, strict = false } = options;
  const executor = await queueExecutor({
    url,
    run,
    model: { name: subject.spec.name, files: subject.files, dtype: subject.dtype },
    methods,
    batchSize,
    strict,
    onWarning: warn,
    ...retriesOf(options),
  });
  return { executor, subject, [Symbol.asyncDispose]: () => executor[Symbol.asyncDispose]() };
}

async function openEndpoint(
  io: Io,
  options: AnswererChoice,
  url: string,
  methods: readonly EvalMethod[],
  warn: (message: string) => void,
): Promise<Answerer> {
  if (options.strict === true || methods.some(({ policy }) => policy.parts.length > 0)) {
    throw new UsageError(
      'a server decides itself what it does to its cache; --acceleration, --policy and --strict have no effect on it. Leave them out.',
    );
  }
  const subject = await remoteSubject(await modelPath(io, options.modelPath), {
    device: 'endpoint',
    dtype: 'unknown',
    devices: [new URL(url).host],
    files: new URL(url).host,
    executor: 'endpoint',
    ...(options.endpointModel !== undefined && { name: options.endpointModel }),
  });
  const { endpointModel, endpointApi, batchSize } = options;
  const executor = endpointExecutor({
    url,
    api: endpointApi,
    concurrency: batchSize,
    onWarning: warn,
    ...retriesOf(options),
    ...(endpointModel !== undefined && { model: endpointModel }),
    ...(io.env['OPENAI_API_KEY'] !== undefined && { apiKey: io.env['OPENAI_API_KEY'] }),
  });
  return { executor, subject, [Symbol.asyncDispose]: () => executor[Symbol.asyncDispose]() };
}

function retriesOf({ retries }: AnswererChoice): { readonly retries?: number } {
  return retries === undefined ? {} : { retries };
}

/** Without --device a model of one's own runs on all GPUs, as in the seed toolkit; the embedded one on the CPU. */
function defaultDevices({ modelPath: model }: AnswererChoice): string[] {
  const gpus = model === undefined ? [] : listDevices().filter(({ kind }) => kind === 'cuda');
  return gpus.length > 0 ? gpus.map(({ id }) => id) : ['cpu'];
}

interface Place {
  readonly id: string;
  readonly place: WorkerPlace;
}

/** Divides devices over models. @throws UsageError for a CPU beside GPUs; what `deviceGroups` throws */
function placesOf(ids: readonly string[], gpNum: string, warn: (message: string) => void): Place[] {
  const gpus = ids.filter((id) => id !== 'cpu').map((id) => Number(id.split(':')[1] ?? 0));
  if (gpus.length > 0 && gpus.length < ids.length) {
    throw new UsageError('the CPU and GPUs cannot share a run: their results differ in rounding.');
  }
  if (gpus.length === 0 && ids.length > 1) {
    throw new UsageError("there is one CPU; for several models on it use --gp-num '1/2'.");
  }
  const cpu = listDevices().find(({ kind }) => kind === 'cpu');
  const { places, warnings } = deviceGroups(gpus.length === 0 ? 'cpu' : gpus, gpNum, {
    // What kernels use, which may be fewer than logical cores.
    ...(cpu !== undefined && { cores: cpu.threads }),
  });
  warnings.forEach(warn);
  return places.map((place) => ({
    id: place.device === 'cpu' ? 'cpu' : `cuda:${place.gpus[0] ?? 0}`,
    place,
  }));
}
