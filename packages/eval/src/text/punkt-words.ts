import { PYTHON_SPACE, strip } from './python-text.js';

const S = `[${PYTHON_SPACE}]`;
const NOT_S = `[^${PYTHON_SPACE}]`;
const NON_WORD = `[?!)";}\\]*:@'({[]`;
const MULTI = `(?:-{2,}|\\.{2,}|(?:\\.${S}){2,}\\.)`;
const WORD_START = '[^("`{[:;&#*@)}\\]\\-,]';
/** Either a run of dashes or dots, or a word up to its end, or any single character. */
const TOKEN = new RegExp(
  `${MULTI}|(?=${WORD_START})${NOT_S}+?(?=${S}|$|${NON_WORD}|${MULTI}|,(?=$|${S}|${NON_WORD}|${MULTI}))|${NOT_S}`,
  'gu',
);
const NUMBER = /^-?[.,]?\p{Nd}[\p{Nd},.-]*\.?$/u;
const ELLIPSIS = /^\.\.+$/;
const INITIAL = /^[\p{L}\p{Nl}\p{No}_]\.$/u;

/** One word of a sentence context with the marks that Punkt puts on it. */
export interface PunktToken {
  readonly text: string;
  /** Lower case, numbers replaced by `##number##`. */
  readonly type: string;
  readonly endsInPeriod: boolean;
  readonly isEllipsis: boolean;
  /** One letter and a period. */
  readonly isInitial: boolean;
  readonly firstUpper: boolean;
  readonly firstLower: boolean;
  readonly typeNoPeriod: string;
  /** `type`, without its period if the token ends a sentence. */
  readonly typeNoSentencePeriod: string;
  endsSentence: boolean;
  abbreviation: boolean;
  ellipsis: boolean;
}

/** The words of `text`, line by line. */
export function* wordTokens(text: string): Generator<PunktToken> {
  for (const line of text.split('\n')) {
    if (strip(line) === '') continue;
    for (const match of line.matchAll(TOKEN)) yield punktToken(match[0]);
  }
}

function punktToken(text: string): PunktToken {
  const lower = text.toLowerCase();
  const type = NUMBER.test(lower) ? '##number##' : lower;
  const typeNoPeriod = type.length > 1 && type.endsWith('.') ? type.slice(0, -1) : type;
  return {
    text,
    type,
    endsInPeriod: text.endsWith('.'),
    isEllipsis: ELLIPSIS.test(text),
    isInitial: INITIAL.test(text),
    firstUpper: /^\p{Lu}/u.test(text),
    firstLower: /^\p{Ll}/u.test(text),
    typeNoPeriod,
    get typeNoSentencePeriod() {
      return this.endsSentence ? typeNoPeriod : type;
    },
    endsSentence: false,
    abbreviation: false,
    ellipsis: false,
  };
}
