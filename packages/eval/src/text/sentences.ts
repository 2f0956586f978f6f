/** Splits prose into sentences; whitespace between sentences belongs to none of them. */
export type SentenceSplitter = (text: string) => string[];

/** Words that end in a period without ending a sentence, lower case, without the period. */
const ABBREVIATIONS: ReadonlySet<string> = new Set([
  ...[
    'mr',
    'mrs',
    'ms',
    'messrs',
    'dr',
    'st',
    'jr',
    'sr',
    'rev',
    'hon',
    'prof',
    'gen',
    'col',
    'capt',
    'lt',
  ],
  ...[
    'sgt',
    'gov',
    'sen',
    'rep',
    'vs',
    'etc',
    'cf',
    'viz',
    'no',
    'vol',
    'chap',
    'fig',
    'ed',
    'e.g',
    'i.e',
  ],
  ...['jan', 'feb', 'mar', 'apr', 'jun', 'jul', 'aug', 'sept', 'sep', 'oct', 'nov', 'dec'],
]);

/** A possible end: one or more end marks, closing quotes or brackets, then whitespace. */
const POSSIBLE_END = /[.!?]+["'’”)\]}]*(?=(\s+))/gu;

/**
 * The rule-based splitter, used when no Punkt parameters are given. A sentence ends at `.`, `!` or `?` (with any
 * closing quotes and brackets) that whitespace follows, unless
 * - the mark is one period after a known abbreviation ("Mr.") or a single capital letter ("J. Smith"), or
 * - the next word begins in lower case.
 *
 * Only the places where needles go depend on the splitter; text is never lost except the whitespace between sentences.
 */
export function splitSentences(text: string): string[] {
  const sentences: string[] = [];
  let start = 0;
  for (const match of text.matchAll(POSSIBLE_END)) {
    const end = match.index + match[0].length;
    const next = end + (match[1]?.length ?? 0);
    if (next >= text.length) break;
    if (match[0] === '.' && endsInAbbreviation(text.slice(start, match.index))) continue;
    if (/^\p{Ll}/u.test(text.slice(next, next + 2))) continue;
    sentences.push(text.slice(start, end).trimStart());
    start = next;
  }
  const rest = text.slice(start).trim();
  if (rest !== '') sentences.push(rest);
  return sentences;
}

function endsInAbbreviation(before: string): boolean {
  const word = /[^\s("'‘“[]*$/u.exec(before)?.[0] ?? '';
  return /^\p{Lu}$/u.test(word) || ABBREVIATIONS.has(word.toLowerCase());
}
