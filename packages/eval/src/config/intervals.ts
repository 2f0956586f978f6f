/**
 * `count` whole numbers from `from` to `to`, evenly spaced, as gkamradt/LLMTest_NeedleInAHaystack's
 * `np.round(np.linspace(from, to, count))`; repetitions are left out.
 */
export function linearSteps(from: number, to: number, count: number): number[] {
  return [...new Set(spread(from, to, count).map(roundHalfEven))];
}

/**
 * Depths that lie dense at both ends: gkamradt/LLMTest_NeedleInAHaystack's `sigmoid`, in percent with three decimals.
 * Its curve falls, so its list runs from deep to shallow between 0 and 100; here the same depths are sorted.
 */
export function sigmoidSteps(from: number, to: number, count: number): number[] {
  const depths = spread(from, to, count).map((x) =>
    x === 0 || x === 100 ? x : Math.round(100_000 / (1 + Math.exp(0.1 * (x - 50)))) / 1000,
  );
  return [...new Set(depths)].sort((a, b) => a - b);
}

function spread(from: number, to: number, count: number): number[] {
  if (count === 1) return [from];
  return Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));
}

/** numpy's `round`. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
