import { PYTHON_SPACE, splitWords } from '../text/python-text.js';
import type { Segment } from './segmenter.js';

/** Python's `string.punctuation`. */
const ASCII_PUNCTUATION = /[!-/:-@[-`{-~]/g;

/** The full-width and CJK marks that LongBench removes, as listed in its `metrics.py`. */
const CJK_PUNCTUATION = new RegExp(
  '[！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏]',
  'gu',
);

/** `\b(a|an|the)\b`; Python's word characters are letters and digits of every script. */
const ARTICLES = /(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu;

const SPACES = new RegExp(`[${PYTHON_SPACE}]+`, 'gu');

/**
 * LongBench's `qa_f1_score`: F1 of the words that answer and reference share, counted with repetitions. Case, ASCII
 * punctuation and articles do not matter.
 *
 * @returns 0 to 1; 0 when either has no words
 *
 * @example
 * qaF1('The Oberoi Group.', 'oberoi group'); // 1
 */
export function qaF1(prediction: string, reference: string): number {
  return f1(englishWords(prediction), englishWords(reference));
}

/**
 * LongBench's `qa_f1_zh_score`: the same over segmented Chinese text; ASCII and CJK punctuation and space within words
 * do not matter.
 *
 * @returns 0 to 1
 */
export function qaF1Zh(prediction: string, reference: string, segment: Segment): number {
  return f1(chineseWords(prediction, segment), chineseWords(reference, segment));
}

function englishWords(text: string): string[] {
  return splitWords(text.toLowerCase().replace(ASCII_PUNCTUATION, '').replace(ARTICLES, ' '));
}

function chineseWords(text: string, segment: Segment): string[] {
  return segment(text)
    .map((word) =>
      word
        .toLowerCase()
        .replace(ASCII_PUNCTUATION, '')
        .replace(CJK_PUNCTUATION, '')
        .replace(SPACES, ''),
    )
    .filter((word) => word !== '');
}

function f1(prediction: readonly string[], reference: readonly string[]): number {
  const unmatched = new Map<string, number>();
  for (const word of reference) unmatched.set(word, (unmatched.get(word) ?? 0) + 1);
  let shared = 0;
  for (const word of prediction) {
    const left = unmatched.get(word) ?? 0;
    if (left === 0) continue;
    unmatched.set(word, left - 1);
    shared++;
  }
  if (shared === 0) return 0;
  const precision = shared / prediction.length;
  const recall = shared / reference.length;
  return (2 * precision * recall) / (precision + recall);
}
