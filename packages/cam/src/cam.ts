import { freezePart } from '@accel/core';
import type { MergePart, OptionOf, Signal, TallyRequest } from '@accel/core';
import { CamMerger } from './merger.js';
import { settingsFrom, type CamOptions, type CamSettings } from './settings.js';
import { CamSmearer } from './smearer.js';

/** The part that {@link cam} returns, with what its options `O` say about where it works and which signals it needs. */
export interface CamPart<O extends CamOptions = CamOptions> extends MergePart<
  'cam',
  NeedsOf<OptionOf<O, 'at', 'decode'>, OptionOf<O, 'statistic', 'stream'>>
> {
  readonly at: OptionOf<O, 'at', 'decode'>;
  readonly lossy: Lossy<OptionOf<O, 'approximateSignal', false>>;
}

type Lossy<A> = A extends true ? 'approximateSignal' : true;

// Options whose values the compiler does not know may need anything, which leaves the check to run time.
type NeedsOf<At, Statistic> = [At] extends ['prompt']
  ? 'observedWindow'
  : [At, Statistic] extends ['decode', 'decode']
    ? 'decodeProbs'
    : [At, Statistic] extends ['decode', 'stream']
      ? 'columnSums' | 'decodeProbs'
      : Signal;

/**
 * CaM (Zhang et al., ICML 2024). A select part decides which rows leave; before one does, its value may be folded into
 * the rows after it: `V_t += V_e / targets`, with the probability that the row's attention bears to that of its targets.
 * Keys never change. It goes with selectors whose rows leave one by one: StreamingLLM, H2O, CakeKV.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range
 * @example
 * const policy = compose(streamingllm({ sink: 1, recent: 255 }), cam());
 */
export function cam<const O extends CamOptions = object>(options?: O): CamPart<O> {
  const settings = settingsFrom(options ?? {});
  const part = freezePart({
    id: 'cam',
    slot: 'merge',
    needs: needsOf(settings),
    provides: [],
    lossy: settings.approximateSignal ? 'approximateSignal' : true,
    recent: settings.recent ?? Infinity,
    at: settings.at,
    observe: settings.at === 'prompt' ? settings.observe : 0,
    tallies: talliesOf(settings),
    options: settings,
    create: (setup) =>
      settings.at === 'prompt' ? new CamSmearer(setup, settings) : new CamMerger(setup, settings),
  } satisfies MergePart<'cam'>);
  // What the conditional types say is what the settings were read from.
  return part as unknown as CamPart<O>;
}

function needsOf({ at, statistic }: CamSettings): Signal[] {
  if (at === 'prompt') return ['observedWindow'];
  return statistic === 'decode' ? ['decodeProbs'] : ['columnSums', 'decodeProbs'];
}

/** GQA: the mean over the query heads of a group, one gate for each kv head (kvpress, and our reading of the original). */
function talliesOf({ at, statistic }: CamSettings): TallyRequest[] {
  if (at === 'prompt') return [];
  const of = statistic === 'decode' ? 'steps' : 'stream';
  return [{ kind: 'attention', reduce: 'mean', of }];
}
