import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { AccelError } from '@accel/kernels';

/** Environment variables, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The folder that Hugging Face libraries keep downloads in: `HF_HUB_CACHE`, else `$HF_HOME/hub`, else
 * `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
 * @param env default `process.env`
 */
export function hubCacheDir(env: Environment = process.env): string {
  // HUGGINGFACE_HUB_CACHE is what HF_HUB_CACHE was called before; Python still reads it.
  const named = env['HF_HUB_CACHE'] ?? env['HUGGINGFACE_HUB_CACHE'];
  return named === undefined ? join(hubHome(env), 'hub') : expand(named, env);
}

/**
 * Address of the Hub: `HF_ENDPOINT`, else https://huggingface.co.
 * @throws AccelError `ERR_ACCEL_ARGUMENT` when it is no http(s) address
 */
export function hubEndpoint(given: string | undefined, env: Environment): string {
  const text = given ?? (env['HF_ENDPOINT'] || 'https://huggingface.co');
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) {
    return text.replace(/\/+$/, '');
  }
  throw new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `The Hub's address is "${text}". Give one like https://huggingface.co (option endpoint, or HF_ENDPOINT).`,
  );
}

/** True when `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) forbids the network. */
export function isOffline(env: Environment): boolean {
  return isTrue(env['HF_HUB_OFFLINE'] || env['TRANSFORMERS_OFFLINE']);
}

/**
 * The access token: `HF_TOKEN`, else what `hf auth login` wrote to `HF_TOKEN_PATH` (`$HF_HOME/token`).
 * @returns undefined when there is none, or `HF_HUB_DISABLE_IMPLICIT_TOKEN` forbids to look
 */
export async function hubToken(env: Environment): Promise<string | undefined> {
  if (isTrue(env['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return undefined;
  const named = clean(env['HF_TOKEN']) ?? clean(env['HUGGING_FACE_HUB_TOKEN']);
  if (named !== undefined) return named;
  const path = env['HF_TOKEN_PATH'];
  const file = path === undefined ? join(hubHome(env), 'token') : expand(path, env);
  try {
    return clean(await readFile(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read the token file ${file}: ${(error as Error).message}. Log in again with "hf auth login", or set HF_TOKEN.`,
      { cause: error },
    );
  }
}

function hubHome(env: Environment): string {
  const named = env['HF_HOME'];
  if (named !== undefined) return expand(named, env);
  const caches = env['XDG_CACHE_HOME'] ?? join(env['HOME'] ?? homedir(), '.cache');
  return expand(join(caches, 'huggingface'), env);
}

/** `~` and `$NAME` as Python's expanduser and expandvars read them; shells do not expand them inside quotes. */
function expand(path: string, env: Environment): string {
  return path
    .replace(/^~(?=\/|$)/, () => env['HOME'] ?? homedir())
    .replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, bare?: string, braced?: string) => {
      return env[bare ?? braced ?? ''] ?? whole;
    });
}

/** Tokens come from files and secrets with line ends around them. */
function clean(text: string | undefined): string | undefined {
  const token = text?.trim();
  return token === '' ? undefined : token;
}

function isTrue(text: string | undefined): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes((text ?? '').toUpperCase());
}
