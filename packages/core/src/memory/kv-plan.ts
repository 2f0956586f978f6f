import type { DType, KvShape } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import { kvShape, rowFormat } from '../engine/kv-shape.js';
import type { PolicyParts } from '../engine/parts.js';
import type { Allotment } from '../policy/allocate.js';
import type { RowFormat } from '../policy/codec.js';
import type { LayerForecast, PromptOutline, ShareForecast } from '../policy/forecast.js';
import { cannotTell } from './errors.js';
import { PageCounter } from './pages.js';

/** What a forecast of the cache is made for. */
export interface KvQuestion {
  readonly spec: ModelSpec;
  readonly parts: PolicyParts;
  readonly dtype: DType;
  readonly prompt: PromptOutline;
  /** Sequences of such prompts. */
  readonly batch: number;
  /** All prompts go through a layer together; else one prompt after the other goes through the model. */
  readonly together: boolean;
  /** Tokens that each sequence decodes afterwards. */
  readonly decodeTokens: number;
  readonly pageBytes: number;
}

/** What becomes of one layer. */
export interface LayerPlan {
  /** Rows when the prompt ends, unless a budget part says otherwise. */
  readonly rows: number;
  readonly dropAt?: number | undefined;
  /** The most rows while decoding. */
  readonly decode?: { readonly rows: number; readonly recent: number } | undefined;
}

/** What the parts of a policy are going to do with a prompt. */
export class PromptPlan {
  readonly tokens: number;
  readonly kvHeads: number;
  readonly pages: PageCounter;
  readonly format: RowFormat | undefined;
  readonly shares: ShareForecast | undefined;
  readonly layers: readonly LayerPlan[];

  constructor({ spec, parts, dtype, prompt, pageBytes }: KvQuestion) {
    const { tokens } = prompt;
    const { select, budget } = parts;
    this.tokens = tokens;
    this.kvHeads = spec.kvHeads;
    this.format = rowFormat({ spec, dtype }, parts);
    const shape: KvShape = kvShape({ spec, dtype }, parts, this.format);
    this.pages = new PageCounter(shape, pageBytes);
    if (select !== undefined && select.forecast === undefined) throw cannotTell(select);
    const forecasts = Array.from({ length: spec.layers }, (_, layer): LayerForecast =>
      select?.forecast === undefined ? { rows: tokens } : select.forecast(prompt, layer),
    );
    const capacities = forecasts.flatMap(({ capacity }) => capacity ?? []);
    // A selection that ranks no rows keeps its own budget beside a budget part.
    if (budget !== undefined && capacities.length === spec.layers) {
      if (budget.forecast === undefined) throw cannotTell(budget);
      this.shares = budget.forecast(prompt, capacities);
    }
    const shares = this.shares?.steps.at(-1);
    this.layers = forecasts.map((forecast, layer) => planOf(forecast, tokens, shares?.[layer]));
  }
}

function planOf(
  { rows, dropAt, decode }: LayerForecast,
  tokens: number,
  share: Allotment | undefined,
): LayerPlan {
  if (share === undefined) return { rows: Math.min(tokens, rows), dropAt, decode };
  const most = share.decode ?? share.rows;
  return {
    rows: Math.min(tokens, share.rows),
    decode: decode && { rows: most, recent: Math.min(most, decode.recent) },
  };
}
