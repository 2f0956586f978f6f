import { PythonRandom } from '../random/python-random.js';
import type { PromptMeter } from './types.js';

const kept = new WeakMap<PromptMeter, Map<string, Int32Array>>();

/** The tokens of a text. Encoding a book takes seconds and every task asks for it, so they are kept with the meter. */
export function encodeOnce(text: string, meter: PromptMeter): Int32Array {
  let texts = kept.get(meter);
  if (texts === undefined) kept.set(meter, (texts = new Map<string, Int32Array>()));
  let ids = texts.get(text);
  if (ids === undefined) texts.set(text, (ids = meter.encode(text)));
  return ids;
}

/** 1 / golden ratio: its multiples, taken modulo 1, are spread evenly however many there are. */
const STEP = (Math.sqrt(5) - 1) / 2;

/**
 * Where window 0, 1, 2, … begins: evenly spread over the places, for any number of windows, so that a window does not
 * depend on how many are taken.
 *
 * @param places starts to choose from, above 0
 * @returns a function to whole numbers from 0 to `places` − 1
 */
export function spreadStarts(places: number, seed: number): (index: number) => number {
  const first = new PythonRandom(seed).random();
  return (index) => Math.floor(((first + index * STEP) % 1) * places);
}
