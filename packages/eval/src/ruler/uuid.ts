import type { PythonRandom } from '../random/python-random.js';

/** `str(uuid.UUID(int=random.getrandbits(128), version=4))`. */
export function randomUuid(random: PythonRandom): string {
  let bits = random.getRandBitsBig(128);
  bits = (bits & ~(0xc000n << 48n)) | (0x8000n << 48n); // variant: RFC 4122
  bits = (bits & ~(0xf000n << 64n)) | (4n << 76n); // version 4
  const hex = bits.toString(16).padStart(32, '0');
  const group = (from: number, to: number): string => hex.slice(from, to);
  return [group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)].join('-');
}
