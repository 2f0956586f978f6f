import { readCheckpoint, type Model } from '@accel/core';
import { configError } from '../errors.js';
import type { PromptModel } from '../prompt/format.js';
import { modelFingerprint } from './fingerprint.js';

/** Whose answers a run is about: what prompts are made with and what results are labelled with. */
export interface Subject extends PromptModel {
  /** Model folder or GGUF file with the tokenizer. */
  readonly path: string;
  /** Digest of the model's files, or what stands for it where only a server knows. */
  readonly files: string;
  /** Kind of device: `cpu`, `cuda`; `endpoint` for a server. */
  readonly device: string;
  readonly dtype: string;
  /** Id and name of each device in use, for `run.json`. */
  readonly devices: readonly string[];
  /** How prompts are answered, for `run.json`. Default `model`. */
  readonly executor?: string;
}

/** A loaded model as the subject of a run. @throws AccelError ERR_ACCEL_FILE, ERR_ACCEL_TOKENIZER */
export async function modelSubject(model: Model): Promise<Subject> {
  const { id, name } = model.device.info;
  return {
    path: model.path,
    tokenizer: model.tokenizer,
    spec: model.spec,
    files: await modelFingerprint(model.path),
    device: id.replace(/:.*$/, ''),
    dtype: model.dtype,
    devices: [`${id} ${name}`],
  };
}

/** What has to be known of a model that other processes, machines or a server run. */
export type RemoteSubject = Pick<Subject, 'device' | 'devices'> &
  Partial<Pick<Subject, 'files' | 'executor'>> & {
    /** Default: that of the weights. */
    readonly dtype?: string;
    /** Positions that may be used. Default: the model's own number. */
    readonly contextLength?: number;
    /** Default: the name in the model's config. */
    readonly name?: string;
  };

/**
 * A model on disk as the subject of a run that others answer; its weights are not loaded.
 * @throws AccelError ERR_ACCEL_FILE, ERR_ACCEL_CONFIG, ERR_ACCEL_TOKENIZER
 */
export async function remoteSubject(path: string, remote: RemoteSubject): Promise<Subject> {
  const { blueprint, tokenizer } = await readCheckpoint(path);
  if (tokenizer === undefined) {
    throw configError(`${path} has no tokenizer, and prompts cannot be made without one.`);
  }
  const { contextLength, name, files, dtype = blueprint.spec.dtype, ...rest } = remote;
  return {
    ...rest,
    path,
    dtype,
    tokenizer,
    files: files ?? (await modelFingerprint(path)),
    spec: {
      ...blueprint.spec,
      ...(name !== undefined && { name }),
      ...(contextLength !== undefined && { contextLength }),
    },
  };
}
