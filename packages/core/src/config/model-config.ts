import { basename, dirname, join, resolve } from 'node:path';
import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import type { Blueprint, Family } from '../models/family.js';
import { families } from '../models/families.js';
import { checkConfig, listIds, optionalTokenId, readJsonObject, tokenIds } from './hf-config.js';
import type { RawConfig } from './hf-config.js';
import type { ModelSpec } from './spec.js';

/**
 * Reads config.json and generation_config.json of a Hugging Face model folder.
 * @throws AccelError `ERR_ACCEL_FILE` (no such folder or file), `ERR_ACCEL_CONFIG` (names the key),
 *   `ERR_ACCEL_ARCHITECTURE` (lists what is supported)
 */
export async function readModelConfig(path: string): Promise<Blueprint> {
  const file = join(path, 'config.json');
  const values = await readJsonObject(file);
  if (values === undefined) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `There is no ${file}. Give the folder of a Hugging Face checkpoint, with config.json, *.safetensors and tokenizer.json in it.`,
    );
  }
  const config = { file, values };
  const family = findFamily(config);
  refuseQuantised(config);
  const { spec, layout } = family.read(config, nameOf(path, values));
  return { spec: await mergeGeneration(path, spec), layout };
}

/** Checkpoints whose matrices are packed: their tensors have other names and formats than floats. */
function refuseQuantised({ file, values }: RawConfig): void {
  const quantised = values['quantization_config'];
  if (quantised === undefined || quantised === null) return;
  const method = (quantised as Record<string, unknown>)['quant_method'];
  const named = typeof method === 'string' ? method.slice(0, 40) : 'an unnamed method';
  throw new AccelError(
    'ERR_ACCEL_CONFIG',
    `${file}: quantization_config says that the weights are quantised (${named}). Weights are computed with in bfloat16, float16 or float32: ` +
      'take the checkpoint from before quantisation, or a GGUF file, whose weights are unpacked when they are loaded.',
  );
}

function findFamily(config: RawConfig): Family {
  const { architectures, model_type: type } = checkConfig(
    z.looseObject({
      architectures: z.array(z.string()).nullish(),
      model_type: z.string().nullish(),
    }),
    config,
  );
  const named = architectures ?? [];
  const found =
    named.length > 0
      ? families.find((family) => named.some((name) => family.architectures.includes(name)))
      : families.find((family) => family.id === type);
  if (found !== undefined) return found;
  const supported = families.flatMap((family) => family.architectures).join(', ');
  throw new AccelError(
    'ERR_ACCEL_ARCHITECTURE',
    `${config.file} names the architecture ${named.join(', ') || (type ?? '(none)')}, which is not supported. Supported: ${supported}.`,
  );
}

const generationSchema = z.looseObject({
  eos_token_id: tokenIds,
  bos_token_id: optionalTokenId,
});

/** End-of-text ids may be in either file; both count. */
async function mergeGeneration(path: string, spec: ModelSpec): Promise<ModelSpec> {
  const file = join(path, 'generation_config.json');
  const values = await readJsonObject(file);
  if (values === undefined) return spec;
  const generation = checkConfig(generationSchema, { file, values });
  const bos = spec.bosTokenId ?? generation.bos_token_id ?? undefined;
  return {
    ...spec,
    eosTokenIds: [...new Set([...spec.eosTokenIds, ...listIds(generation.eos_token_id)])],
    ...(bos !== undefined && { bosTokenId: bos }),
  };
}

/** The name a checkpoint goes by: its own, the hub's, or the folder's. */
function nameOf(path: string, values: Readonly<Record<string, unknown>>): string {
  const own = values['_name_or_path'];
  if (typeof own === 'string' && /^[\w-][\w.-]*(\/[\w.-]+)?$/.test(own)) return own;
  const folder = resolve(path);
  // Hugging Face's cache keeps a revision in models--owner--name/snapshots/<hash>.
  const hub = basename(dirname(dirname(folder)));
  if (basename(dirname(folder)) === 'snapshots' && hub.startsWith('models--')) {
    return hub.slice('models--'.length).replace('--', '/');
  }
  return basename(folder) === 'model' ? basename(dirname(folder)) : basename(folder);
}
