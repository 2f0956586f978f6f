/**
 * Which part of the answer's distinct words a response has, ignoring case; words are what stands between spaces. The
 * seed toolkit's score, without a judge.
 *
 * @returns 0 to 100; 0 when the answer has no words
 */
export function wordOverlap(response: string, answer: string): number {
  const wanted = wordsOf(answer);
  const said = wordsOf(response);
  const found = [...wanted].filter((word) => said.has(word)).length;
  return wanted.size === 0 ? 0 : (found / wanted.size) * 100;
}

function wordsOf(text: string): Set<string> {
  return new Set(
    text
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== ''),
  );
}
