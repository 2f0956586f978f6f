import { AccelError } from '@accel/kernels';
import { isDataset } from './names.js';
import { Transient } from './retry.js';

/** Who was asked for what. */
export interface Asked {
  readonly repo: string;
  readonly endpoint: string;
  readonly token: string | undefined;
}

/**
 * What a response of 400 or above means, by the Hub's `X-Error-Code` and `X-Error-Message` headers, and what to do
 * about it. Statuses that pass by themselves come back as {@link Transient}.
 */
export function refusal(response: Response, asked: Asked): AccelError | Transient {
  const { status } = response;
  const failure = new AccelError('ERR_ACCEL_HUB', explain(response, asked));
  if (status !== 408 && status !== 429 && status < 500) return failure;
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new Transient(failure, seconds > 0 ? seconds * 1000 : undefined);
}

function explain(response: Response, { repo, endpoint, token }: Asked): string {
  const { status } = response;
  const code = response.headers.get('x-error-code');
  const said = response.headers.get('x-error-message') ?? '';
  const page = `${endpoint}/${repo}`;
  const kind = isDataset(repo) ? 'data set' : 'model';
  if (code === 'RevisionNotFound') {
    return `${repo} has no such revision. ${page} lists its branches and tags.`;
  }
  if (code === 'EntryNotFound') {
    return `${new URL(response.url).pathname} is not at ${endpoint} (any more). Pull again for the new list of files.`;
  }
  if (code === 'GatedRepo') {
    return token === undefined
      ? `${repo} is gated: its owner wants to know who downloads it. Accept the terms at ${page}, then set HF_TOKEN to a token of your account (${endpoint}/settings/tokens).`
      : `${repo} is gated, and the account of your token has no access. Ask for it at ${page}; a fine-grained token also needs the permission to read gated repositories.`;
  }
  if (status === 401 && /invalid credentials/i.test(said)) {
    return `The Hub does not know your token. Set HF_TOKEN to one that ${endpoint}/settings/tokens lists, or log in again with "hf auth login".`;
  }
  if (code === 'RepoNotFound' || status === 401 || status === 404) {
    return token === undefined
      ? `There is no ${kind} ${repo} at ${endpoint}, or it is private. Check the name; for a private ${kind} set HF_TOKEN.`
      : `There is no ${kind} ${repo} at ${endpoint} that your token may read. Check the name and the account.`;
  }
  if (status === 403) {
    return `The Hub refuses ${repo}${said === '' ? '' : ` (${said})`}. Check what your token may read.`;
  }
  if (status === 429) {
    return 'The Hub has had too many requests from here. Wait some minutes and pull again; with HF_TOKEN set the limit is higher.';
  }
  return `${new URL(response.url).origin} answered ${status}${said === '' ? '' : ` (${said})`}. Pull again later: what was received is kept.`;
}
