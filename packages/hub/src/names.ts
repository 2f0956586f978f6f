/**
 * Names that become paths: of repositories, revisions and files. They come from a command line, a server or a file in
 * the cache, and none of them may lead out of the folder it belongs in.
 */
import { AccelError } from '@accel/kernels';

/**
 * A repository on the Hub, as `org/name`, `org/name@revision` or `org/name/file.gguf@revision` name it. Data sets are
 * `datasets/org/name`, as in their address.
 */
export interface ModelName {
  /** `org/name`, `name` for the few models without an owner, or `datasets/org/name`. */
  readonly repo: string;
  /** One file of the repository. */
  readonly file?: string;
  /** Branch, tag or commit. */
  readonly revision?: string;
}

/** Hash of a commit: what a branch or tag stands for. */
export const COMMIT: RegExp = /^[0-9a-f]{40}$/;

/** The Hub's rules, without those on what exists: letters, digits, `-`, `_` and `.`, neither first nor last a `-` or `.`. */
const REPO_PART = /^\w(?:[\w.-]*\w)?$/;

const DATASETS = 'datasets';

/** True for `datasets/org/name`. The Hub has no owner of that name. */
export function isDataset(repo: string): boolean {
  return repo.startsWith(`${DATASETS}/`);
}

/** Takes a name apart. Returns undefined when it cannot be a model on the Hub, as an ordinary path often cannot. */
export function parseModelName(text: string): ModelName | undefined {
  const at = text.indexOf('@');
  const revision = at === -1 ? undefined : text.slice(at + 1);
  const parts = (at === -1 ? text : text.slice(0, at)).split('/');
  const length = parts[0] === DATASETS && parts.length > 1 ? 3 : 2;
  const repo = parts.slice(0, length).join('/');
  const file = parts.slice(length).join('/');
  if (!isRepo(isDataset(repo) ? repo.slice(DATASETS.length + 1) : repo)) return undefined;
  if (parts.length > length && !isFileName(file)) return undefined;
  if (revision !== undefined && !isRevision(revision)) return undefined;
  return {
    repo,
    ...(file !== '' && { file }),
    ...(revision !== undefined && { revision }),
  };
}

/** @throws AccelError `ERR_ACCEL_ARGUMENT` when a revision could not be a branch, tag or commit */
export function checkRevision(revision: string): void {
  if (isRevision(revision)) return;
  throw new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `"${revision}" is not a revision. Give a branch, a tag or a commit hash, such as main.`,
  );
}

/** @throws AccelError `ERR_ACCEL_HUB` when a file name of a server or an index could lead out of its folder */
export function checkFileName(name: string, origin: string): void {
  if (isFileName(name)) return;
  throw new AccelError(
    'ERR_ACCEL_HUB',
    `${origin} names a file ${JSON.stringify(name)}, which could lead out of the model's folder. Nothing was written for it; do not use this model, or tell its owner.`,
  );
}

function isRepo(repo: string): boolean {
  return (
    repo.length <= 96 &&
    repo.split('/').every((part) => REPO_PART.test(part)) &&
    !/--|\.\.|\.git$/.test(repo)
  );
}

/** What git allows in the name of a reference, and nothing that a path reads differently. */
function isRevision(revision: string): boolean {
  return isFileName(revision) && !/[ ~^:?*[]|@\{|\.lock$/.test(revision);
}

/** Checked by the rules of every system, so that a cache stays harmless when another one reads it. */
function isFileName(name: string): boolean {
  // eslint-disable-next-line no-control-regex -- control characters are what must not be in a name
  if (/[\u0000-\u001f\u007f\\]/.test(name)) return false;
  return name
    .split('/')
    .every((part) => part !== '' && part !== '.' && part !== '..' && !/^[A-Za-z]:/.test(part));
}
