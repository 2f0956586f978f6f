/** Pseudo-random token ids (never zeros), the same for every system. */
export function tokens(count, vocab) {
  let state = 12345;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 3 + ((state >>> 8) % (vocab - 3));
  });
}

export const DECODE_TOKENS = 128;
