import { loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import type { Io } from './io.js';
import { formatBytes } from './format.js';
import { colorsFor } from './ui/colors.js';
import { Progress } from './ui/progress.js';
import type { DtypeName } from './values.js';

/** Which model to load, and how. */
export interface ModelChoice {
  /** Hugging Face model directory; default the embedded needle model. */
  readonly path?: string | undefined;
  /** Device id; default `cpu`. */
  readonly device?: string | undefined;
  /** Number format; `auto` is that of the weights. */
  readonly dtype: DtypeName;
}

/** Loads a model and shows how far it is, if it takes long enough to be seen. Ctrl-C stops it. */
export async function openModel(io: Io, choice: ModelChoice): Promise<Model> {
  const colors = colorsFor(io.stderr, io.env);
  let progress: Progress | undefined;
  try {
    return await loadModel(choice.path ?? needlePath, {
      ...(choice.device !== undefined && { device: choice.device }),
      dtype: choice.dtype,
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
