import type { Device, DType, Stream } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { RopeFrequencies } from '../engine/rope.js';

/** What the state of a part for one sequence is made with. */
export interface PartSetup {
  readonly spec: ModelSpec;
  readonly stream: Stream;
  readonly device: Device;
  readonly dtype: DType;
  /** Which number of a row's record is which of the part's `tallies`, in their order. */
  readonly tallies: readonly number[];
  /** Rotary frequencies for a number of positions seen. */
  rope(length: number): RopeFrequencies;
}
