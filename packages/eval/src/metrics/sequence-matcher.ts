/** Where a text has each character, in ascending order. */
type Positions = ReadonlyMap<string, readonly number[]>;

/** Characters of `a` from `aFrom` to `aTo` and of `b` from `bFrom` to `bTo`, ends excluded. */
interface Range {
  readonly aFrom: number;
  readonly aTo: number;
  readonly bFrom: number;
  readonly bTo: number;
}

/** A stretch of equal characters. */
interface Match {
  readonly a: number;
  readonly b: number;
  readonly size: number;
}

/**
 * Python's `difflib.SequenceMatcher(None, a, b).ratio()`: twice the characters in matching blocks over all characters
 * (Ratcliff and Obershelp's measure). The longest block is found first, then the longest to the left and right of it.
 * In texts of 200 characters and more, characters that make up over 1 % of `b` do not start a match ("autojunk").
 *
 * @returns 0 to 1; 1 for two empty texts
 */
export function sequenceRatio(a: string, b: string): number {
  const left = Array.from(a);
  const right = Array.from(b);
  if (left.length + right.length === 0) return 1;
  const positions = usefulPositions(right);

  let matching = 0;
  const open: Range[] = [{ aFrom: 0, aTo: left.length, bFrom: 0, bTo: right.length }];
  for (let range = open.pop(); range !== undefined; range = open.pop()) {
    const match = longestMatch(left, right, positions, range);
    if (match.size === 0) continue;
    matching += match.size;
    open.push(
      { aFrom: range.aFrom, aTo: match.a, bFrom: range.bFrom, bTo: match.b },
      {
        aFrom: match.a + match.size,
        aTo: range.aTo,
        bFrom: match.b + match.size,
        bTo: range.bTo,
      },
    );
  }
  return (2 * matching) / (left.length + right.length);
}

function usefulPositions(text: readonly string[]): Positions {
  const positions = new Map<string, number[]>();
  for (const [index, character] of text.entries()) {
    const known = positions.get(character);
    if (known === undefined) positions.set(character, [index]);
    else known.push(index);
  }
  if (text.length >= 200) {
    const most = Math.floor(text.length / 100) + 1;
    for (const [character, found] of positions) {
      if (found.length > most) positions.delete(character);
    }
  }
  return positions;
}

/** The longest match in a range; of several, the one that starts first in `a`, then first in `b`. */
function longestMatch(
  a: readonly string[],
  b: readonly string[],
  positions: Positions,
  { aFrom, aTo, bFrom, bTo }: Range,
): Match {
  let best: Match = { a: aFrom, b: bFrom, size: 0 };
  // Length of the match that ends at the previous character of a and at each character of b.
  let lengths = new Map<number, number>();
  for (let i = aFrom; i < aTo; i++) {
    const next = new Map<number, number>();
    for (const j of positions.get(a[i] as string) ?? []) {
      if (j < bFrom) continue;
      if (j >= bTo) break;
      const size = (lengths.get(j - 1) ?? 0) + 1;
      next.set(j, size);
      if (size > best.size) best = { a: i - size + 1, b: j - size + 1, size };
    }
    lengths = next;
  }
  // Frequent characters start no match, but belong to one that they adjoin.
  let { a: start, b: other, size } = best;
  while (start > aFrom && other > bFrom && a[start - 1] === b[other - 1]) {
    start--;
    other--;
    size++;
  }
  while (start + size < aTo && other + size < bTo && a[start + size] === b[other + size]) size++;
  return { a: start, b: other, size };
}
