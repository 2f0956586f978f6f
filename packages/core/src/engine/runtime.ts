import type { Device, DType, PagePool, Stream } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { ModelWeights } from '../models/bind.js';
import type { Lock } from './lock.js';
import type { RopeCache } from './rope.js';
import type { Workspace } from './workspace.js';

/** Everything a forward pass needs, owned by the model. */
export interface Runtime {
  readonly device: Device;
  readonly stream: Stream;
  readonly pool: PagePool;
  readonly spec: ModelSpec;
  readonly weights: ModelWeights;
  readonly dtype: DType;
  readonly workspace: Workspace;
  readonly rope: RopeCache;
  /** A GPU: work is enqueued before the result of what runs is known. On a CPU that would only wait. */
  readonly runsAhead: boolean;
  /** Tokens that go through a layer together in prefill. */
  readonly chunkTokens: number;
  /** Passes share the workspace, so they run one after another. */
  readonly lock: Lock;
}
