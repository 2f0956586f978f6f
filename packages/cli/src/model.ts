import { loadModel, type Model } from '@accel/core';
import { findModel } from '@accel/hub';
import { Device } from '@accel/kernels';
import { needlePath } from '@accel/needle';
import type { Io } from './io.js';
import { formatBytes } from './format.js';
import { colorsFor } from './ui/colors.js';
import { Progress } from './ui/progress.js';
import type { DtypeName } from './values.js';

/** Which model to load, and how. */
export interface ModelChoice {
  /** Model as {@link modelPath} takes it; default the embedded needle model. */
  readonly path?: string | undefined;
  /** Device id; default `cpu`. */
  readonly device?: string | undefined;
  /** Number format; `auto` is that of the weights. */
  readonly dtype: DtypeName;
  /** Models that share the device, this one included: the cache takes its part and no more. Default 1. */
  readonly sharedBy?: number | undefined;
}

/**
 * Where a model is that the user named: a folder or file, else `org/name` in the cache that `accel pull` and Python
 * fill.
 * @param model default the embedded needle model
 * @throws AccelError `ERR_ACCEL_FILE` with the command that fetches it
 */
export async function modelPath(io: Io, model: string | undefined): Promise<string> {
  return model === undefined ? needlePath : findModel(model, { env: io.env });
}

/** Loads a model and shows how far it is, if it takes long enough to be seen. Ctrl-C stops it. */
export async function openModel(io: Io, choice: ModelChoice): Promise<Model> {
  const colors = colorsFor(io.stderr, io.env);
  let progress: Progress | undefined;
  try {
    return await loadModel(await modelPath(io, choice.path), {
      ...(choice.device !== undefined && { device: choice.device }),
      dtype: choice.dtype,
      ...(choice.sharedBy !== undefined && { kvBytes: fairShare(choice, choice.sharedBy) }),
      signal: io.signal,
      onProgress: ({ loadedBytes, totalBytes }) => {
        // A model that loads within one redraw (the embedded one) needs no bar.
        progress ??= new Progress(io.stderr, {
          label: 'loading',
          total: totalBytes,
          colors,
          delayMs: 300,
          format: (done, total) => `${formatBytes(done)} of ${formatBytes(total)}`,
        });
        progress.update(loadedBytes);
      },
    });
  } finally {
    progress?.close();
  }
}

/**
 * Half of a model's part of the device, as a model alone takes half of all. Of the whole memory, since what is free when a
 * model loads depends on how many of the others were there already.
 */
function fairShare({ device }: ModelChoice, sharedBy: number): number {
  const { free, total } = Device.open(device).info.memory;
  return Math.floor(Math.min(free, total / sharedBy) / 2);
}
