import { availableParallelism } from 'node:os';
import { configError } from '../errors.js';

/** Where one worker process runs. */
export interface WorkerPlace {
  /** Device id inside the worker, which sees its own GPUs only. */
  readonly device: 'cpu' | 'cuda';
  /** GPUs of the group by the numbers that were given; empty on the CPU. The model runs on the first. */
  readonly gpus: readonly number[];
  /** Workers that share this device, this one included: each may take this part of its memory. */
  readonly sharedBy: number;
  /** Environment variables to add. */
  readonly env: Readonly<Record<string, string>>;
}

/** What {@link deviceGroups} makes of `--device` and `--gp_num`. */
export interface DeviceGroups {
  readonly places: readonly WorkerPlace[];
  /** What the user may not expect, in whole sentences. */
  readonly warnings: readonly string[];
}

/** The machine, as far as it matters here. Default: this process's. */
export interface GroupSurroundings {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Threads that CPU workers divide among themselves, unless ACCEL_THREADS says so. Default: logical cores. */
  readonly cores?: number;
}

/**
 * Divides devices over models as the seed toolkit does. `gpNum` `'n'` is n GPUs a model, `'1/n'` is n models a GPU. Groups
 * and models are dealt round robin: with 4 GPUs and `'2'` the groups are 0, 2 and 1, 3.
 *
 * @param devices GPU numbers as CUDA_VISIBLE_DEVICES counts them, or `'cpu'`, for which `'1/n'` divides the cores
 * @throws AccelError ERR_ACCEL_CONFIG when `gpNum` is no such thing or does not divide the GPUs
 *
 * @example
 * deviceGroups([0, 1], '1/2').places.length; // 4
 */
export function deviceGroups(
  devices: readonly number[] | 'cpu',
  gpNum: string,
  surroundings: GroupSurroundings = {},
): DeviceGroups {
  const { env = process.env, cores = availableParallelism() } = surroundings;
  const match = /^(?:(1)\/)?([1-9]\d*)$/.exec(gpNum.trim());
  if (match === null) {
    throw configError(
      `gp_num is "${gpNum}"; give the GPUs of a model (2), or 1/ and the models of a GPU (1/2).`,
    );
  }
  const number = Number(match[2]);
  const modelsPerDevice = match[1] === undefined ? 1 : number;
  if (devices === 'cpu') {
    if (modelsPerDevice !== number) {
      throw configError(`gp_num is ${number}, but there is one CPU. Use 1, or 1/${number}.`);
    }
    const threads = String(cpuThreads(env, cores, modelsPerDevice));
    const place: WorkerPlace = {
      device: 'cpu',
      gpus: [],
      sharedBy: modelsPerDevice,
      env: modelsPerDevice === 1 ? {} : { ACCEL_THREADS: threads },
    };
    return { places: Array.from({ length: modelsPerDevice }, () => place), warnings: [] };
  }
  checkDevices(devices);
  const visible = visibleDevices(env);
  const groups = match[1] === undefined ? split(devices, number) : repeat(devices, number);
  const places = groups.map((gpus): WorkerPlace => {
    const names = gpus.map((gpu) => nameOf(gpu, visible));
    return {
      device: 'cuda',
      gpus,
      sharedBy: modelsPerDevice,
      env: { CUDA_VISIBLE_DEVICES: names.join(',') },
    };
  });
  const idle = groups.flatMap((gpus) => gpus.slice(1));
  const warnings =
    idle.length === 0
      ? []
      : [
          `A model runs on one GPU in this version: of every ${number} GPUs the first computes, and ${idle.join(', ')} stay idle. gp_num 1 uses them all.`,
        ];
  return { places, warnings };
}

function split(devices: readonly number[], size: number): number[][] {
  if (devices.length % size !== 0) {
    throw configError(
      `${devices.length} GPUs (${devices.join(', ')}) cannot be divided evenly into groups of ${size}. Change device or gp_num.`,
    );
  }
  const groups = devices.length / size;
  return Array.from({ length: groups }, (_, group) =>
    devices.filter((_device, i) => i % groups === group),
  );
}

function repeat(devices: readonly number[], times: number): number[][] {
  return Array.from({ length: times }, () => devices.map((device) => [device])).flat();
}

function checkDevices(devices: readonly number[]): void {
  const twice = devices.find((device, i) => devices.indexOf(device) !== i);
  if (twice !== undefined) {
    throw configError(
      `GPU ${twice} is given twice. Give it once, and gp_num 1/2 for two models on a GPU.`,
    );
  }
  if (
    devices.length === 0 ||
    !devices.every((device) => Number.isSafeInteger(device) && device >= 0)
  ) {
    throw configError(`device is [${devices.join(', ')}]; give GPU numbers such as 0 1 3.`);
  }
}

/** What this process was given: numbers that the user counts from 0 within, or nothing, which is all. */
function visibleDevices(env: GroupSurroundings['env']): string[] | undefined {
  const value = env?.CUDA_VISIBLE_DEVICES;
  return value?.split(',').flatMap((id) => id.trim() || []);
}

function nameOf(gpu: number, visible: readonly string[] | undefined): string {
  if (visible === undefined) return String(gpu);
  const name = visible[gpu];
  if (name !== undefined) return name;
  throw configError(
    `GPU ${gpu} was asked for, but CUDA_VISIBLE_DEVICES is "${visible.join(',')}" and shows ${visible.length}, counted from 0.`,
  );
}

function cpuThreads(env: GroupSurroundings['env'], cores: number, workers: number): number {
  const given = Number(env?.ACCEL_THREADS ?? '');
  return Math.max(1, Math.floor((given > 0 ? given : cores) / workers));
}
