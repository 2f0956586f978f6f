import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AccelError } from '@accel/kernels';
import { CachedRepo, sizeOf } from './cached-repo.js';
import { hubCacheDir, type Environment } from './environment.js';
import { matchesAny } from './glob.js';
import { checkFileName, isDataset, parseModelName, type ModelName } from './names.js';

/** Options of {@link findModel}. */
export interface FindOptions {
  /** Folder of the cache. Default: {@link hubCacheDir}. */
  readonly cacheDir?: string;
  /** Where `HF_…` variables are read. Default `process.env`. */
  readonly env?: Environment;
}

/**
 * Finds a model on this machine, without a network: a path that exists is taken as it is; otherwise `org/name`,
 * `org/name@revision` (default `main`) or `org/name/file.gguf` is looked up in the cache that {@link pull} and Hugging
 * Face's Python libraries fill.
 * @returns what `loadModel` takes: the folder of a checkpoint, or a GGUF file (the first of a split one)
 * @throws AccelError `ERR_ACCEL_FILE` when it is not there or not whole, with the command that fetches it
 */
export async function findModel(model: string, options: FindOptions = {}): Promise<string> {
  if (await exists(model)) return model;
  const name = parseModelName(model);
  if (name === undefined || isDataset(name.repo))
    throw missing(`There is no file or folder ${model}. Check the path.`);
  const cacheDir = options.cacheDir ?? hubCacheDir(options.env);
  const cache = new CachedRepo(cacheDir, name.repo);
  const revision = name.revision ?? 'main';
  const commit = await cache.commitOf(revision);
  const snapshot = commit === undefined ? undefined : cache.snapshot(commit);
  if (snapshot === undefined || !(await exists(snapshot))) {
    throw missing(await explainAbsence(model, name, cache, cacheDir));
  }
  if (name.file === undefined) return wholeModel(snapshot, name);
  if ((await sizeOf(join(snapshot, name.file))) !== undefined) return join(snapshot, name.file);
  throw missing(`The cache has ${name.repo} without ${name.file}. ${advice(name)}`);
}

/** A file of a snapshot: its path below it, and its bytes. */
export interface FoundFile {
  readonly path: string;
  readonly size: number;
}

/** Files of a snapshot that are there, not links to nothing; with patterns, those that match one. */
export async function findFiles(
  snapshot: string,
  include: readonly string[] = ['*'],
): Promise<FoundFile[]> {
  const entries = await readdir(snapshot, { recursive: true });
  const found: FoundFile[] = [];
  for (const path of entries.sort()) {
    if (!matchesAny(path, include)) continue;
    const size = await sizeOf(join(snapshot, path));
    if (size !== undefined) found.push({ path, size });
  }
  return found;
}

const INDEX = 'model.safetensors.index.json';

/** Says which part of a checkpoint is missing before `loadModel` stumbles over it. */
async function wholeModel(snapshot: string, name: ModelName): Promise<string> {
  const files = new Set((await findFiles(snapshot)).map(({ path }) => path));
  const gguf = [...files].filter((path) => path.endsWith('.gguf'));
  if (!files.has('config.json') && gguf.length > 0) return chooseGguf(snapshot, gguf, name);
  const needed = ['config.json'];
  if (files.has(INDEX) && !files.has('model.safetensors')) {
    needed.push(...(await shards(join(snapshot, INDEX))));
  } else if (![...files].some((path) => /^[^/]*\.safetensors$/.test(path))) {
    needed.push('model.safetensors');
  }
  const absent = needed.filter((file) => !files.has(file));
  if (absent.length === 0) return snapshot;
  const more = absent.length > 3 ? ` and ${absent.length - 3} more` : '';
  throw missing(
    `${name.repo} in the cache is not whole: ${absent.slice(0, 3).join(', ')}${more} of ${snapshot} ${
      absent.length === 1 ? 'is' : 'are'
    } missing. ${advice(name)}`,
  );
}

/** Names of the files that an index of shards lists. */
async function shards(index: string): Promise<string[]> {
  let map: unknown;
  try {
    map = (JSON.parse(await readFile(index, 'utf8')) as { weight_map?: unknown }).weight_map;
  } catch {
    // Not JSON: loadModel reads the file again and says where it is damaged.
    return [];
  }
  const names = new Set(Object.values(map ?? {}).filter((name) => typeof name === 'string'));
  for (const name of names) checkFileName(name, index);
  return [...names].sort();
}

const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/;

function chooseGguf(snapshot: string, files: readonly string[], name: ModelName): string {
  const models = new Set(files.map((file) => file.replace(SPLIT, '.gguf')));
  const [first = ''] = files;
  if (models.size > 1) {
    const list = files.filter((file) => Number(SPLIT.exec(file)?.[1] ?? 1) === 1);
    throw missing(
      `The cache has several GGUF files of ${name.repo}. Name one of them:\n${list
        .map(
          (file) =>
            `  ${name.repo}/${file}${name.revision === undefined ? '' : `@${name.revision}`}`,
        )
        .join('\n')}`,
    );
  }
  const parts = Number(SPLIT.exec(first)?.[2] ?? 1);
  if (parts === files.length) return join(snapshot, first);
  throw missing(
    `${name.repo} in the cache is not whole: ${files.length} of ${parts} parts of ${[...models].join('')} are there. ` +
      `Download the rest with: accel pull ${name.repo} --file '${first.replace(SPLIT, '-*.gguf')}'`,
  );
}

async function explainAbsence(
  model: string,
  name: ModelName,
  cache: CachedRepo,
  cacheDir: string,
): Promise<string> {
  const revisions = await listRevisions(cache);
  if (revisions.length > 0) {
    return `The cache has ${name.repo} at ${revisions.join(', ')}, not at ${name.revision ?? 'main'}. ${advice(name)}`;
  }
  const similar = await similarModels(name.repo, cacheDir);
  const hint = similar.length === 0 ? '' : ` Did you mean ${similar.join(' or ')}?`;
  return `There is no file or folder ${model}, and the Hugging Face cache (${cacheDir}) has no model of this name.${hint} ${advice(name)}`;
}

/** Branches and tags whose snapshots are there. */
async function listRevisions(cache: CachedRepo): Promise<string[]> {
  const refs = join(cache.folder, 'refs');
  const names = await readdir(refs, { recursive: true }).catch(() => []);
  const found: string[] = [];
  for (const revision of names) {
    const commit = await cache.commitOf(revision).catch(() => undefined);
    if (commit !== undefined && (await exists(cache.snapshot(commit)))) found.push(revision);
  }
  return found.sort();
}

/** Models in the cache that have this name in other letters, or under an owner that was left out. */
async function similarModels(repo: string, cacheDir: string): Promise<string[]> {
  const wanted = repo.toLowerCase();
  const folders = await readdir(cacheDir).catch(() => []);
  return folders
    .filter((folder) => folder.startsWith('models--'))
    .map((folder) => folder.slice('models--'.length).replace('--', '/'))
    .filter((known) => {
      const lower = known.toLowerCase();
      return known !== repo && (lower === wanted || lower.endsWith(`/${wanted}`));
    })
    .sort();
}

function advice({ repo, file, revision }: ModelName): string {
  const flags = [
    ...(revision === undefined ? [] : [`--revision ${revision}`]),
    ...(file === undefined ? [] : [`--file ${file}`]),
  ];
  return `Download it with: ${['accel pull', repo, ...flags].join(' ')}`;
}

function missing(message: string): AccelError {
  return new AccelError('ERR_ACCEL_FILE', message);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
