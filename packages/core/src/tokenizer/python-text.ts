/** Characters that Python's `str.strip` takes away; JavaScript's `trim` differs in U+001C to U+001F, U+0085 and U+FEFF. */
const WHITESPACE = new Set(
  '\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a' +
    '\u2028\u2029\u202f\u205f\u3000',
);

/**
 * Python's `str.strip`, `lstrip` and `rstrip`.
 * @param characters what to take away, a set of characters; undefined for white space
 */
export function pythonStrip(
  text: string,
  characters: string | undefined,
  side: 'start' | 'end' | 'both',
): string {
  const set = characters === undefined ? WHITESPACE : new Set(characters);
  const points = Array.from(text);
  let start = 0;
  let end = points.length;
  if (side !== 'end') while (start < end && set.has(points[start] as string)) start++;
  if (side !== 'start') while (end > start && set.has(points[end - 1] as string)) end--;
  return points.slice(start, end).join('');
}

const ESCAPES: Readonly<Record<string, string>> = { '\t': '\\t', '\n': '\\n', '\r': '\\r' };

/** Python's `repr` of a text: single quotes unless the text has them and no double ones. */
export function pythonRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = Array.from(text, (character) => {
    if (character === quote || character === '\\') return `\\${character}`;
    if (character === ' ' || /[\p{L}\p{M}\p{N}\p{P}\p{S}]/u.test(character)) return character;
    const code = character.codePointAt(0) as number;
    const hex = code.toString(16);
    if (code <= 0xff) return ESCAPES[character] ?? `\\x${hex.padStart(2, '0')}`;
    return code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
  });
  return `${quote}${body.join('')}${quote}`;
}

/**
 * Python's `repr` of a number: floats have a point or an exponent of two digits, which begins at 1e16 and below 1e-4.
 */
export function pythonNumber(value: number, isFloat: boolean): string {
  if (!isFloat) return BigInt(value).toString();
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  }
  if (Object.is(value, -0)) return '-0.0';
  return Number.isInteger(value) ? value.toFixed(1) : value.toString();
}
