import type { PromptMeter } from '../benchmark/types.js';

/** A text with a needle in it. */
interface Haystack {
  readonly text: string;
  /** Where the needle begins, in percent of the tokens around it. */
  readonly position: number;
}

/** A sentence's end, with what closes quotes and brackets. */
const SENTENCE_END = /[.!?]["'’”)\]]*\s*$/;

/**
 * Puts a needle behind the last sentence that ends before a depth, as gkamradt/LLMTest_NeedleInAHaystack does. There a
 * sentence ends at a token that is a period alone; here at the characters, so that depths are the same whatever other
 * tokens a tokenizer makes of `."` or `.\n`.
 *
 * @param hay tokens of the text
 * @param depth in percent of the tokens; at 100 the needle stands at the end, in the midst of a sentence if need be
 */
export function insertNeedle(
  hay: Int32Array,
  needle: string,
  depth: number,
  meter: Pick<PromptMeter, 'decode'>,
): Haystack {
  const wanted = depth >= 100 ? hay.length : Math.floor((hay.length * depth) / 100);
  const cut = depth >= 100 ? wanted : sentenceEnd(hay, wanted, meter);
  const before = trimEnd(meter.decode(hay.subarray(0, cut)));
  const after = trimEnd(meter.decode(hay.subarray(cut)));
  const text = join(join(before, needle), after);
  return { text, position: hay.length === 0 ? 0 : (cut / hay.length) * 100 };
}

/** Tokens up to the last sentence end that is not behind `wanted`; 0 when there is none. */
function sentenceEnd(hay: Int32Array, wanted: number, meter: Pick<PromptMeter, 'decode'>): number {
  for (let cut = wanted; cut > 0; cut--) {
    // A few tokens are enough to see a period with its closing quotes.
    const tail = meter.decode(hay.subarray(Math.max(0, cut - 4), cut));
    if (SENTENCE_END.test(tail)) return cut;
  }
  return 0;
}

/** Cutting between tokens can cut a character of several bytes in two. */
function trimEnd(text: string): string {
  return text.replace(/\uFFFD+$/, '');
}

/** Puts a space between, unless one side has a space or line end of its own. */
function join(left: string, right: string): string {
  const apart = left === '' || right === '' || /\s$/.test(left) || /^\s/.test(right);
  return apart ? left + right : `${left} ${right}`;
}
