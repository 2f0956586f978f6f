import { argumentError } from '../errors.js';
import { sortedDistinct } from '../text/python-text.js';

/**
 * The sorted, distinct `adjective-noun` words that needles use as keys. RULER builds all of them (6.2 million from
 * the official lists) and sorts; here the k-th is computed: words are grouped by adjective, and only adjectives that
 * begin another one ("blue", "blue-eyed") need their words listed to be sorted together.
 */
export class KeyWords {
  readonly #groups: { readonly first: number; readonly words: WordGroup }[] = [];
  /** How many distinct words there are. */
  readonly length: number;

  /** @throws AccelError ERR_ACCEL_ARGUMENT when a list is empty */
  constructor(adjectives: Iterable<string>, nouns: Iterable<string>) {
    const heads = sortedDistinct([...adjectives].map((adjective) => `${adjective}-`));
    const tails = sortedDistinct(nouns);
    if (heads.length === 0 || tails.length === 0) {
      throw argumentError(
        'Key words need at least one adjective and one noun; one of the lists is empty.',
      );
    }
    let first = 0;
    for (let i = 0; i < heads.length;) {
      const root = heads[i] ?? '';
      let end = i + 1;
      while (end < heads.length && (heads[end] ?? '').startsWith(root)) end++;
      const words = new WordGroup(heads.slice(i, end), tails);
      this.#groups.push({ first, words });
      first += words.length;
      i = end;
    }
    this.length = first;
  }

  /** The word at `index` in code-point order. @param index 0 to `length − 1` */
  at(index: number): string {
    let low = 0;
    let high = this.#groups.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#groups[middle]?.first ?? 0) <= index) low = middle;
      else high = middle - 1;
    }
    const group = this.#groups[low];
    const word = group?.words.at(index - group.first);
    if (word === undefined) {
      throw argumentError(
        `There is no key word ${index}; there are ${this.length} (0 to ${this.length - 1}).`,
      );
    }
    return word;
  }
}

/** The words of one adjective, or of several of which the first begins all others. */
class WordGroup {
  readonly #head: string;
  readonly #tails: readonly string[];
  readonly length: number;

  constructor(heads: readonly string[], tails: readonly string[]) {
    if (heads.length === 1) {
      this.#head = heads[0] ?? '';
      this.#tails = tails;
    } else {
      this.#head = '';
      this.#tails = sortedDistinct(heads.flatMap((head) => tails.map((tail) => head + tail)));
    }
    this.length = this.#tails.length;
  }

  at(index: number): string | undefined {
    const tail = this.#tails[index];
    return tail === undefined ? undefined : this.#head + tail;
  }
}
