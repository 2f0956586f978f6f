/** Least mass that is told apart from none. */
const FLOOR_EXPONENT = -9;
const STEPS = 0xfffe;
/** What stands for a block that was not looked at. */
const UNSEEN = 0xffff;

/**
 * Masses as 16-bit numbers on a logarithmic scale, little endian, in base64: 0 is less than 1e-9, 1 to 65534 are 1e-9 to 1 in
 * steps of 0.03 %, 65535 was not looked at (NaN). The page's own script reads them back, see `viewer.ts`.
 */
export function encodeMass(mass: Float32Array): string {
  const bytes = Buffer.alloc(2 * mass.length);
  for (const [at, value] of mass.entries()) bytes.writeUInt16LE(massCode(value), 2 * at);
  return bytes.toString('base64');
}

function massCode(value: number): number {
  if (Number.isNaN(value)) return UNSEEN;
  const exponent = Math.log10(Math.min(1, value));
  if (!(exponent >= FLOOR_EXPONENT)) return 0;
  return 1 + Math.round(((exponent - FLOOR_EXPONENT) / -FLOOR_EXPONENT) * (STEPS - 1));
}

/** Flags as bits, lowest first, in base64. */
export function encodeFlags(flags: Uint8Array): string {
  const bytes = new Uint8Array(Math.ceil(flags.length / 8));
  for (const [at, flag] of flags.entries()) {
    if (flag === 1) bytes[at >> 3] = (bytes[at >> 3] ?? 0) | (1 << (at & 7));
  }
  return Buffer.from(bytes).toString('base64');
}
