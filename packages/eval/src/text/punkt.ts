import type { PunktParameters } from './punkt-parameters.js';
import { ORTHO } from './punkt-parameters.js';
import { wordTokens } from './punkt-words.js';
import type { PunktToken } from './punkt-words.js';
import { PYTHON_SPACE, stripEnd } from './python-text.js';
import type { SentenceSplitter } from './sentences.js';

const S = `[${PYTHON_SPACE}]`;
const NOT_S = `[^${PYTHON_SPACE}]`;
const CLOSING = `[?!)";}\\]*:@'({[]`;

/** A period, `?` or `!`, and what follows it: other punctuation, or whitespace and the next token. */
const POSSIBLE_END = new RegExp(`[.?!](?=(?<after>${CLOSING}|${S}+(?<next>${NOT_S}+)))`, 'gu');
/** Closing quotes and brackets at the start of a sentence belong to the sentence before. */
const REALIGN = new RegExp(`^["')\\]}]+?(?:${S}+|(?=--)|(?=\\n)|$)`, 'u');
const ASCII_SPACE = /[ \t\n\r\v\f]/;
const PUNCTUATION: ReadonlySet<string> = new Set([';', ':', ',', '.', '!', '?']);

/**
 * A Punkt sentence splitter with given, already trained parameters (Kiss and Strunk, "Unsupervised Multilingual
 * Sentence Boundary Detection", Computational Linguistics 32(4), 2006). It decides as NLTK 3.8's
 * `PunktSentenceTokenizer.tokenize` does, quirks included, because RULER's needle positions hang on it.
 */
export function punktSplitter(parameters: PunktParameters): SentenceSplitter {
  return (text) => realign(text, boundaries(text, parameters));
}

interface Span {
  start: number;
  end: number;
}

interface Candidate {
  /** Index just after the end mark. */
  end: number;
  /** Where the next sentence begins if this is a boundary. */
  nextStart: number;
  /** The word before the mark, the mark, and what follows: the text the decision is made on. */
  context: string;
}

function* candidates(text: string): Generator<Candidate> {
  let word: Span = { start: 0, end: 0 };
  let held: Candidate | undefined;
  for (const match of text.matchAll(POSSIBLE_END)) {
    const mark = match.index;
    const wordStart = startOfLastWord(text, word, mark);
    // Marks inside one word ("U.S.A.") are one candidate: the last of them.
    if (held !== undefined && word.end <= wordStart) yield held;
    word = { start: wordStart, end: mark };
    const after = match.groups?.after ?? '';
    const next = match.groups?.next;
    const end = mark + match[0].length;
    held = {
      end,
      nextStart: next === undefined ? end : end + after.length - next.length,
      context: text.slice(wordStart, mark) + match[0] + after,
    };
  }
  if (held !== undefined) yield held;
}

function startOfLastWord(text: string, previous: Span, mark: number): number {
  for (let i = mark - 1; i > previous.end; i--) {
    if (ASCII_SPACE.test(text.charAt(i))) return i + 1;
  }
  // No whitespace since the previous mark: both marks are in one word.
  return previous.start;
}

function* boundaries(text: string, parameters: PunktParameters): Generator<Span> {
  let start = 0;
  for (const candidate of candidates(text)) {
    if (!containsBreak(candidate.context, parameters)) continue;
    yield { start, end: candidate.end };
    start = candidate.nextStart;
  }
  yield { start, end: stripEnd(text).length };
}

function realign(text: string, spans: Iterable<Span>): string[] {
  const sentences: string[] = [];
  const list = [...spans];
  let shift = 0;
  for (const [i, span] of list.entries()) {
    const start = span.start + shift;
    const next = list[i + 1];
    if (next === undefined) {
      push(text.slice(start, span.end));
      continue;
    }
    const closing = REALIGN.exec(text.slice(next.start, next.end));
    if (closing === null) {
      shift = 0;
      push(text.slice(start, span.end));
    } else {
      shift = closing[0].length;
      sentences.push(text.slice(start, next.start + stripEnd(closing[0]).length));
    }
  }
  return sentences;

  function push(sentence: string): void {
    if (sentence !== '') sentences.push(sentence);
  }
}

/** Whether a sentence ends inside `context`: at any token but the last. */
function containsBreak(context: string, parameters: PunktParameters): boolean {
  const tokens = [...wordTokens(context)];
  for (const token of tokens) annotateAlone(token, parameters);
  for (const [i, token] of tokens.entries()) {
    const next = tokens[i + 1];
    if (next === undefined) return false;
    annotatePair(token, next, parameters);
    if (token.endsSentence) return true;
  }
  return false;
}

function annotateAlone(token: PunktToken, { abbreviations }: PunktParameters): void {
  const { text } = token;
  if (text === '.' || text === '?' || text === '!') {
    token.endsSentence = true;
  } else if (token.isEllipsis) {
    token.ellipsis = true;
  } else if (token.endsInPeriod && !text.endsWith('..')) {
    const stem = text.slice(0, -1).toLowerCase();
    const lastPart = stem.slice(stem.lastIndexOf('-') + 1);
    if (abbreviations.has(stem) || abbreviations.has(lastPart)) token.abbreviation = true;
    else token.endsSentence = true;
  }
}

function annotatePair(token: PunktToken, next: PunktToken, parameters: PunktParameters): void {
  if (!token.endsInPeriod) return;
  const type = token.typeNoPeriod;
  const nextType = next.typeNoSentencePeriod;
  if (parameters.collocations.has(`${type} ${nextType}`)) {
    token.endsSentence = false;
    token.abbreviation = true;
    return;
  }
  if ((token.abbreviation || token.ellipsis) && !token.isInitial) {
    if (startsSentence(next, parameters) === true) {
      token.endsSentence = true;
      return;
    }
    if (next.firstUpper && parameters.sentenceStarters.has(nextType)) {
      token.endsSentence = true;
      return;
    }
  }
  if (token.isInitial || type === '##number##') {
    const starts = startsSentence(next, parameters);
    const seenLower = ((parameters.orthography.get(nextType) ?? 0) & ORTHO.lower) !== 0;
    if (
      starts === false ||
      (starts === 'unknown' && token.isInitial && next.firstUpper && !seenLower)
    ) {
      token.endsSentence = false;
      token.abbreviation = true;
    }
  }
}

/** The orthographic heuristic: does the case of `token` say that it begins a sentence? */
function startsSentence(token: PunktToken, parameters: PunktParameters): boolean | 'unknown' {
  if (PUNCTUATION.has(token.text)) return false;
  const seen = parameters.orthography.get(token.typeNoSentencePeriod) ?? 0;
  if (token.firstUpper && (seen & ORTHO.lower) !== 0 && (seen & ORTHO.middleUpper) === 0)
    return true;
  if (token.firstLower && ((seen & ORTHO.upper) !== 0 || (seen & ORTHO.beginLower) === 0))
    return false;
  return 'unknown';
}
