import { AccelError, freezePart } from '@accel/core';
import type { LayerForecast, OptionOf, PartSetup, PromptOutline, SelectPart } from '@accel/core';
import { PromptSelector, StepSelector } from './selector.js';
import {
  capacityOf,
  idleRows,
  settingsFrom,
  type L2compressOptions,
  type L2compressSettings,
} from './settings.js';

/** The part that {@link l2compress} returns, with what its options `O` say about when it evicts, and in which turns. */
export interface L2compressPart<O extends L2compressOptions = L2compressOptions> extends SelectPart<
  'l2compress',
  never
> {
  readonly evicts: OptionOf<O, 'evicts', 'prefillEnd'>;
  readonly turns: OptionOf<O, 'turns', Turns<OptionOf<O, 'evicts', 'prefillEnd'>>>;
}

type Turns<Evicts> = Evicts extends 'everyStep' ? 'every' : 'first';

/**
 * L2Compress (Devoto, Zhao, Scardapane, Minervini, EMNLP 2024, arXiv 2406.11430). Keys with a small norm get most of the
 * attention, so in each kv head the rows with the smallest key norms stay. It needs neither queries nor attention. The
 * first two layers, where the rule does not hold, keep everything.
 *
 * @throws AccelError `ERR_ACCEL_BUDGET` if the budget does not exceed what is protected, `ERR_ACCEL_POLICY` for an
 *   option that is out of range, and when a model is given that has no layer left to compress
 * @example
 * const sequence = model.sequence({ policy: compose(l2compress({ budget: { keep: 0.5 } })) });
 */
export function l2compress<const O extends L2compressOptions = object>(
  options?: O,
): L2compressPart<O> {
  const settings = settingsFrom(options ?? {});
  const part = freezePart({
    id: 'l2compress',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    evicts: settings.evicts,
    turns: settings.turns,
    options: settings,
    forecast: (prompt, layer) => forecast(settings, prompt, layer),
    create: (setup) => select(setup, settings),
  } satisfies SelectPart<'l2compress', never>);
  // What the conditional types say is what the settings were read from.
  return part as unknown as L2compressPart<O>;
}

function select(setup: PartSetup, settings: L2compressSettings): PromptSelector {
  const { layers } = setup.spec;
  if (
    Array.from({ length: layers }, (_, layer) => layer).every((i) =>
      settings.skipLayers.includes(i),
    )
  ) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `L2Compress: skipLayers ${JSON.stringify(settings.skipLayers)} leaves none of the model's ${layers} layers to compress. Give fewer.`,
    );
  }
  return settings.evicts === 'everyStep'
    ? new StepSelector(setup, settings)
    : new PromptSelector(setup, settings);
}

function forecast(
  settings: L2compressSettings,
  { tokens }: PromptOutline,
  layer: number,
): LayerForecast {
  const { sink, recent, skipLayers, pruneAfter, evicts } = settings;
  const window = sink + recent;
  if (skipLayers.includes(layer)) return { rows: tokens, capacity: { rows: tokens, window } };
  const rows = capacityOf(settings, tokens);
  return {
    rows: tokens < pruneAfter ? tokens : rows,
    capacity: { rows, window },
    ...(evicts === 'everyStep' && { decode: { rows: idleRows(settings), recent } }),
  };
}
