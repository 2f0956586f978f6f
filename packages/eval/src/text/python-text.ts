/**
 * Python's idea of whitespace as a regular-expression class body: `\s` of a `str` pattern. JavaScript's `\s` has
 * U+FEFF, which Python has not, and lacks U+001C to U+001F and U+0085, which Python has.
 */
export const PYTHON_SPACE =
  '\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const SPACE_RUN = new RegExp(`[${PYTHON_SPACE}]+`, 'gu');
const SPACE_START = new RegExp(`^[${PYTHON_SPACE}]+`, 'u');
const ONE_SPACE = new RegExp(`[${PYTHON_SPACE}]`, 'u');

/** `re.sub(r'\s+', ' ', text).split(' ')`: words, with empty ones where the text begins or ends in whitespace. */
export function collapseAndSplit(text: string): string[] {
  return text.split(SPACE_RUN);
}

/** `text.split()`: words, none of them empty. */
export function splitWords(text: string): string[] {
  return text.split(SPACE_RUN).filter((word) => word !== '');
}

/** `text.strip()`. */
export function strip(text: string): string {
  return stripEnd(text).replace(SPACE_START, '');
}

/** `text.rstrip()`. A loop: a regular expression would try every whitespace run of a long text. */
export function stripEnd(text: string): string {
  let end = text.length;
  while (end > 0 && ONE_SPACE.test(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}

/** `sorted(set(items))`: by code point, as Python compares strings, not by UTF-16 unit. */
export function sortedDistinct(items: Iterable<string>): string[] {
  return [...new Set(items)].sort(byCodePoint);
}

function byCodePoint(a: string, b: string): number {
  const limit = Math.min(a.length, b.length);
  for (let i = 0; i < limit; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return order(x) - order(y);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all other units. */
function order(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
