import { freezePart, type JsonObject, type SelectPart, type SelectorSetup } from '@accel/core';
import { assertFixedRotation } from './attention.js';
import { StreamSelector, WindowSelector } from './selector.js';
import { settingsFrom, type StreamingllmOptions, type StreamingllmSettings } from './settings.js';

/** The part that {@link streamingllm} returns. */
export type StreamingllmPart = SelectPart<'streamingllm', never>;

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
export function streamingllm(options: StreamingllmOptions = {}): StreamingllmPart {
  const settings = settingsFrom(options);
  return freezePart({
    id: 'streamingllm',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: settings.positions,
    evicts: settings.trim === 'token' ? 'everyStep' : 'prefillEnd',
    options: settings as unknown as JsonObject,
    create: (setup) => select(setup, settings),
  } satisfies StreamingllmPart);
}

function select(setup: SelectorSetup, settings: StreamingllmSettings): WindowSelector {
  if (settings.positions === 'cacheRelative') assertFixedRotation(setup.spec);
  const plain = settings.positions === 'original' && settings.prefill === 'dense';
  return plain ? new WindowSelector(setup, settings) : new StreamSelector(setup, settings);
}
