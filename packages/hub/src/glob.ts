import { AccelError } from '@accel/kernels';

/**
 * Tells whether a file's path matches a pattern as Python's `fnmatch` reads it, which is what `hf download --include`
 * does: `*` matches any characters, slashes too, `?` one, `[abc]` and `[!abc]` one of a set; a pattern that ends in `/`
 * means everything below that folder.
 * @throws AccelError `ERR_ACCEL_ARGUMENT` for a set such as `[z-a]`
 */
export function matches(path: string, pattern: string): boolean {
  return toRegExp(pattern.endsWith('/') ? `${pattern}*` : pattern).test(path);
}

/** True when one of the patterns matches. */
export function matchesAny(path: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => matches(path, pattern));
}

function toRegExp(pattern: string): RegExp {
  const source = pattern.replace(/\*+|\?|\[!?\]?[^\]]*\]|[^*?]/g, (token) => {
    if (token.startsWith('*')) return '.*';
    if (token === '?') return '.';
    if (token.length === 1) return escape(token);
    const negated = token.startsWith('[!');
    const set = token.slice(negated ? 2 : 1, -1).replace(/[\\\]^[]/g, '\\$&');
    return `[${negated ? '^' : ''}${set}]`;
  });
  try {
    return new RegExp(`^${source}$`, 's');
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `"${pattern}" is not a file pattern: a set in it cannot be read. Write ranges upwards, as in [0-9].`,
      { cause: error },
    );
  }
}

function escape(character: string): string {
  return character.replace(/[.+^${}()|[\]\\/-]/, '\\$&');
}
