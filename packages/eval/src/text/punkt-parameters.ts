import { z } from 'zod';
import { fileError, messageOf } from '../errors.js';
import { readText } from './read-text.js';

/**
 * Masks over an orthographic context: how a word type was seen in the training text. Bits 1 to 3 are upper case at
 * the beginning, in the middle and at an unknown place of a sentence, bits 4 to 6 the same in lower case.
 */
export const ORTHO: Readonly<Record<'middleUpper' | 'upper' | 'beginLower' | 'lower', number>> = {
  middleUpper: 0b0000100,
  upper: 0b0001110,
  beginLower: 0b0010000,
  lower: 0b1110000,
};

/** Trained Punkt parameters of one language. */
export interface PunktParameters {
  /** Lower case, without the final period. */
  readonly abbreviations: ReadonlySet<string>;
  /** Pairs of types that a period does not separate, joined by one space. */
  readonly collocations: ReadonlySet<string>;
  readonly sentenceStarters: ReadonlySet<string>;
  /** Type → {@link ORTHO} bits. */
  readonly orthography: ReadonlyMap<string, number>;
}

const punktFile = z.object({
  abbrev_types: z.array(z.string()),
  collocations: z.array(z.tuple([z.string(), z.string()])),
  sent_starters: z.array(z.string()),
  ortho_context: z.record(z.string(), z.number().int()),
});

/**
 * Reads Punkt parameters from JSON (`.json` or `.json.gz`) with NLTK's attribute names: `abbrev_types`,
 * `collocations`, `sent_starters`, `ortho_context`. The model itself is not shipped: its licence is unclear.
 *
 * @throws AccelError ERR_ACCEL_FILE when the file cannot be read or has another shape
 */
export async function readPunktParameters(path: string): Promise<PunktParameters> {
  const text = await readText(path, 'the Punkt parameters');
  let json: z.infer<typeof punktFile>;
  try {
    json = punktFile.parse(JSON.parse(text));
  } catch (error) {
    throw fileError(
      `${path} does not hold Punkt parameters (JSON with abbrev_types, collocations, sent_starters and ortho_context): ${messageOf(error)}`,
      error,
    );
  }
  return {
    abbreviations: new Set(json.abbrev_types),
    collocations: new Set(json.collocations.map(([first, second]) => `${first} ${second}`)),
    sentenceStarters: new Set(json.sent_starters),
    orthography: new Map(Object.entries(json.ortho_context)),
  };
}
