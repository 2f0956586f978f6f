import { AccelError } from '@accel/kernels';
import { formatBytes } from './format.js';
import { matchesAny } from './glob.js';
import type { RemoteFile } from './listing.js';
import { isDataset } from './names.js';

/** Which files of a repository are wanted; patterns are those of {@link matches}. */
export interface Selection {
  /** Patterns of files to take. Default: what `loadModel` reads of a safetensors model; all of a data set. */
  readonly include?: readonly string[];
  /** Patterns of files to leave out, even if `include` has them. */
  readonly exclude?: readonly string[];
}

/** Config, weights, tokenizer and chat template. */
const MODEL_FILES = [
  '*.json',
  '*.jinja',
  '*.safetensors',
  'tokenizer*',
  '*.model',
  '*.tiktoken',
  'merges.txt',
  'vocab.txt',
];

/** Other formats in folders of their own, and Mistral's second copy of the weights under its own names. */
const NOT_MODEL_FILES = ['*/*', 'consolidated*.safetensors'];

/**
 * The files to download.
 * @throws AccelError `ERR_ACCEL_HUB` when nothing matches, or by default no weights are among them
 */
export function selectFiles(
  files: readonly RemoteFile[],
  selection: Selection,
  repo: string,
): RemoteFile[] {
  const { include = isDataset(repo) ? ['*'] : MODEL_FILES, exclude = [] } = selection;
  const byDefault = selection.include === undefined && !isDataset(repo);
  const left = byDefault ? [...NOT_MODEL_FILES, ...exclude] : exclude;
  const chosen = files.filter(({ path }) => matchesAny(path, include) && !matchesAny(path, left));
  if (byDefault && !chosen.some(({ path }) => path.endsWith('.safetensors'))) {
    throw new AccelError('ERR_ACCEL_HUB', withoutWeights(files, repo));
  }
  if (chosen.length > 0) return chosen;
  throw new AccelError(
    'ERR_ACCEL_HUB',
    `No file of ${repo} matches ${include.join(', ')}. It has:\n${list(files)}`,
  );
}

function withoutWeights(files: readonly RemoteFile[], repo: string): string {
  const gguf = files.filter(({ path }) => path.endsWith('.gguf'));
  const [first] = gguf;
  if (first !== undefined) {
    return `${repo} has its weights as GGUF only. Choose one, for example --file ${first.path} (option include: ['${first.path}']):\n${list(gguf)}`;
  }
  const weights = files.filter(({ path }) =>
    /\.(safetensors|bin|pth?|ckpt|h5|msgpack)$/.test(path),
  );
  return `${repo} has no safetensors weights at its top level${
    weights.length === 0 ? '' : `, only:\n${list(weights)}\n`
  }${weights.length === 0 ? '. ' : ''}Take a safetensors or GGUF version of the model, or name the files you want with --file (option include).`;
}

const SHOWN = 20;

function list(files: readonly RemoteFile[]): string {
  const lines = files.slice(0, SHOWN).map(({ path, size }) => `  ${path} (${formatBytes(size)})`);
  if (files.length > SHOWN) lines.push(`  and ${files.length - SHOWN} more`);
  return lines.join('\n');
}
