/**
 * The portable generator of the specifications: element i of stream `seed`, uniform in [-1, 1), exact in float32.
 * Integer arithmetic only, so every language gives the same bits.
 *
 * @param count number of elements
 * @param scale factor on every element; default 1
 */
export function generated(seed: number, count: number, scale = 1): Float32Array {
  const out = new Float32Array(count);
  const start = Math.imul(seed, 0x9e3779b9);
  for (let i = 0; i < count; i++) {
    let h = (i + start) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
    out[i] = ((h >>> 8) * 2 ** -23 - 1) * scale;
  }
  return out;
}

/** Rows of a head-major tensor `[heads, tokens, dim]`, given as `[tokens, heads, dim]`, which is how ops want them. */
export function tokenMajor(
  data: Float32Array,
  [heads, tokens, dim]: readonly [number, number, number],
  from = 0,
  to: number = tokens,
): Float32Array {
  const out = new Float32Array((to - from) * heads * dim);
  for (let head = 0; head < heads; head++) {
    for (let token = from; token < to; token++) {
      const source = (head * tokens + token) * dim;
      out.set(data.subarray(source, source + dim), ((token - from) * heads + head) * dim);
    }
  }
  return out;
}

/** `count` tokens of a byte vocabulary, 0 to 253, the same for the same seed. */
export function byteTokens(count: number, seed: number): Int32Array {
  return Int32Array.from(generated(seed, count), (x) => Math.floor((x + 1) * 127));
}
