import type { z } from 'zod';

/**
 * `key.path: what is wrong` for every problem that a schema found, on one line.
 * @param value what was checked: each problem then tells what stands there
 */
export function describeIssues(error: z.ZodError, value?: unknown): string {
  return error.issues
    .map(({ path, message }) => {
      if (path.length === 0) return message;
      const found = value === undefined ? '' : ` is ${shown(valueAt(value, path))}`;
      return `${path.join('.')}${found}: ${message}`;
    })
    .join('; ');
}

/** What stands at a path; undefined where nothing does. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, key) =>
      typeof inner === 'object' && inner !== null
        ? (inner as Record<PropertyKey, unknown>)[key]
        : undefined,
    value,
  );
}

const LONGEST = 60;

/** A value on one line, cut when it is long; `missing` for none. */
export function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  // JSON has no NaN and no infinity.
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
