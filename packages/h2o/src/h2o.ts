import { freezePart, parseSaved, type OptionOf, type SelectPart } from '@accel/core';
import { H2oSelector } from './selector.js';
import { limitsOf, limitsSchema, reader, settingsFrom, type H2oOptions } from './settings.js';

/** The part that {@link h2o} returns, with what its options `O` say about when it evicts and which signals it accepts. */
export interface H2oPart<O extends H2oOptions = H2oOptions> extends SelectPart<
  'h2o',
  'columnSums' | 'decodeProbs'
> {
  readonly lossy: Lossy<OptionOf<O, 'approximateSignal', false>>;
  readonly evicts: OptionOf<O, 'evicts', 'everyStep'>;
}

type Lossy<A> = A extends true ? 'approximateSignal' : true;

/**
 * H2O (Zhang et al., NeurIPS 2023, arXiv 2306.14048). A row's score is the attention it received from all queries since
 * it was there, those of the prompt included. Over the budget, the newest `recent` rows stay and of the others those
 * with the largest scores: after a prompt as many as fit, while decoding one row leaves each head at every step.
 *
 * @throws AccelError `ERR_ACCEL_BUDGET` for a budget that is none or smaller than `recent`, `ERR_ACCEL_POLICY` for an
 *   option that is out of range
 * @example
 * const sequence = model.sequence({ policy: compose(h2o({ budget: { tokens: 1024 }, recent: 512 })) });
 */
export function h2o<const O extends H2oOptions = object>(options?: O): H2oPart<O> {
  const settings = settingsFrom(options ?? {});
  const part = freezePart({
    id: 'h2o',
    slot: 'select',
    needs: ['columnSums', 'decodeProbs'],
    provides: [],
    lossy: settings.approximateSignal ? 'approximateSignal' : true,
    positions: 'original',
    evicts: settings.evicts,
    // Decode steps count only for who evicts in them.
    tallies: [
      {
        kind: 'attention',
        reduce: settings.groupReduce,
        of: settings.evicts === 'everyStep' ? 'stream' : 'prompts',
      },
    ],
    options: settings,
    forecast: ({ tokens }) => {
      const { rows, recent } = limitsOf(settings, tokens);
      const capacity = { rows, window: recent };
      return {
        rows,
        capacity,
        ...(settings.evicts === 'everyStep' && { decode: { rows, recent } }),
      };
    },
    create: (setup, saved) =>
      new H2oSelector(setup, settings, parseSaved(reader.title, limitsSchema, saved)),
  } satisfies SelectPart<'h2o', 'columnSums' | 'decodeProbs'>);
  // What the conditional types say is what the settings were read from.
  return part as unknown as H2oPart<O>;
}
