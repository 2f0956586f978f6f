import process from 'node:process';
import type { WorkerCommand, WorkerPlace } from '@accel/eval';
import { entryScript } from '../entry.js';
import type { DtypeName } from '../values.js';

/** The model of a worker and where it runs. */
export interface WorkerChoice {
  /** Folder or file, found already. */
  readonly modelPath: string;
  readonly dtype: DtypeName;
  readonly place: WorkerPlace;
}

/** How `accel eval` starts a process that answers for it. */
export function workerCommand({ modelPath, dtype, place }: WorkerChoice): WorkerCommand {
  const options = {
    '--model-path': modelPath,
    '--device': place.device,
    '--torch-dtype': dtype,
    '--shared-by': String(place.sharedBy),
  };
  return {
    command: process.execPath,
    args: [entryScript, 'worker', '--ipc', ...Object.entries(options).flat()],
    env: place.env,
  };
}
