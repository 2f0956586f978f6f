/**
 * The first key that occurs twice in one object of a JSON text. `JSON.parse` keeps the last of such keys without a
 * word, and two descriptions of one tensor mean that one of them is wrong.
 * @param text valid JSON
 */
export function findDuplicateKey(text: string): string | undefined {
  // One entry per open bracket: the keys seen for an object, undefined for a list.
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '{':
        open.push(new Set());
        break;
      case '[':
        open.push(undefined);
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case '"': {
        const end = endOfString(text, at);
        const keys = open[open.length - 1];
        if (keys !== undefined && isKey(text, end)) {
          const key = JSON.parse(text.slice(at, end)) as string;
          if (keys.has(key)) return key;
          keys.add(key);
        }
        at = end - 1;
        break;
      }
      default:
    }
  }
  return undefined;
}

/** Index after the closing quote of the string that opens at `at`. */
function endOfString(text: string, at: number): number {
  let end = at + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end + 1;
}

/** A string is a key when a colon follows. */
function isKey(text: string, end: number): boolean {
  let at = end;
  while (at < text.length && ' \t\n\r'.includes(text[at] ?? '')) at++;
  return text[at] === ':';
}
