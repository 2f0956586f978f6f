import { freezePart, parseSaved } from '@accel/core';
import type { JsonObject, OptionOf, PartSetup, SelectPart } from '@accel/core';
import { assertFixedRotation } from './attention.js';
import { forecast, scratchBytes } from './forecast.js';
import { windowSchema, type Window } from './rules.js';
import { StreamSelector, WindowSelector } from './selector.js';
import {
  reader,
  settingsFrom,
  type StreamingllmOptions,
  type StreamingllmSettings,
} from './settings.js';

/** The part that {@link streamingllm} returns, with what its options `O` say about what it goes together with. */
export interface StreamingllmPart<
  O extends StreamingllmOptions = StreamingllmOptions,
> extends SelectPart<'streamingllm', never> {
  readonly positions: OptionOf<O, 'positions', 'cacheRelative'>;
  readonly prefill: OptionOf<O, 'prefill', 'dense'>;
  readonly evicts: Evicts<OptionOf<O, 'trim', 'token'>>;
  readonly turns: Turns<OptionOf<O, 'trim', 'token'>>;
}

type Evicts<Trim> = Trim extends 'token' ? 'everyStep' : 'prefillEnd';
type Turns<Trim> = Trim extends 'turn' ? 'every' : 'first';

/**
 * StreamingLLM (Xiao et al., ICLR 2024, arXiv 2309.17453). The first `sink` tokens and the newest `recent` stay, in
 * every layer and head, and the model sees them at consecutive positions however long the stream is. It needs no scores
 * and its cache does not grow; what left the window is forgotten.
 *
 * @throws AccelError `ERR_ACCEL_BUDGET` if the budget does not exceed the sinks, `ERR_ACCEL_POLICY` for an option that
 *   is out of range or does not go with another
 * @example
 * const sequence = model.sequence({ policy: compose(streamingllm({ sink: 4, recent: 1020 })) });
 */
export function streamingllm<const O extends StreamingllmOptions = object>(
  options?: O,
): StreamingllmPart<O> {
  const settings = settingsFrom(options ?? {});
  const part = freezePart({
    id: 'streamingllm',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: settings.positions,
    prefill: settings.prefill,
    evicts: settings.trim === 'token' ? 'everyStep' : 'prefillEnd',
    turns: settings.trim === 'turn' ? 'every' : 'first',
    options: settings as unknown as JsonObject,
    forecast: (prompt) => forecast(settings, prompt),
    scratchBytes: (prompt) => scratchBytes(settings, prompt),
    create: (setup, saved) =>
      select(setup, settings, parseSaved(reader.title, windowSchema, saved)),
  } satisfies SelectPart<'streamingllm', never>);
  // What the conditional types say is what the settings were read from.
  return part as unknown as StreamingllmPart<O>;
}

function select(
  setup: PartSetup,
  settings: StreamingllmSettings,
  window: Window | undefined,
): WindowSelector {
  if (settings.positions === 'cacheRelative') assertFixedRotation(setup.spec);
  const plain = settings.positions === 'original' && settings.prefill === 'dense';
  return plain
    ? new WindowSelector(setup, settings, window)
    : new StreamSelector(setup, settings, window);
}
