/**
 * A layer's claim on the cache: dispersion^(1/τ1) · shift^(1/τ2). Dispersion is the entropy of the observed queries'
 * attention, shift its variance over these queries. 0 when either is not a number that can be a claim.
 */
export function preference(dispersion: number, shift: number, tau1: number, tau2: number): number {
  const claim = Math.fround(
    Math.max(0, dispersion) ** (1 / tau1) * Math.max(0, shift) ** (1 / tau2),
  );
  return Number.isFinite(claim) ? claim : 0;
}

/**
 * Shares out rows before the window by preference, as the original does, rounding included.
 *
 * 1. r_i = P_i / ΣP · total in float32; a_i is r_i without its fraction.
 * 2. What layers get beyond `most` goes to the others in equal parts, the remainder to the first of them one each; once.
 * 3. What is still missing from the total is given in the same way to layers below `most`; what is too much is taken
 *    from layers above 1. Once.
 * 4. What a layer has beyond `most` after that is lost. So the shares may add up to less than the total.
 *
 * While only some of the layers are known, these share everything. Equal shares when no layer has a preference.
 *
 * @param preferences of the layers known so far
 * @param total rows for all layers of the model
 * @param most rows that a layer has
 */
export function allocate(preferences: readonly number[], total: number, most: number): number[] {
  const sum = Math.fround(preferences.reduce((a, b) => a + b, 0));
  const equal = Math.fround(1 / preferences.length);
  const shares = preferences.map((claim) => {
    const quotient = sum > 0 && sum < Infinity ? Math.fround(claim / sum) : equal;
    return Math.trunc(Math.fround(quotient * total));
  });
  const excess = shares.reduce((extra, rows) => extra + Math.max(rows - most, 0), 0);
  for (const [i, rows] of shares.entries()) shares[i] = Math.min(rows, most);
  if (excess > 0) spread(shares, excess, 1, (rows) => rows < most);
  const missing = total - shares.reduce((a, b) => a + b, 0);
  if (missing > 0) spread(shares, missing, 1, (rows) => rows < most);
  else if (missing < 0) spread(shares, -missing, -1, (rows) => rows > 1);
  return shares.map((rows) => Math.min(rows, most));
}

/** Adds `rows · sign` in equal parts to the shares that qualify now; what does not divide goes to the first, one each. */
function spread(
  shares: number[],
  rows: number,
  sign: 1 | -1,
  qualifies: (share: number) => boolean,
): void {
  const takers = [...shares.keys()].filter((i) => qualifies(shares[i] ?? 0));
  const each = Math.floor(rows / takers.length);
  for (const [place, i] of takers.entries()) {
    shares[i] = (shares[i] ?? 0) + sign * (each + Number(place < rows % takers.length));
  }
}
