import type { Method, Model, Policy } from '@accel/core';
import type { AccelErrorCode } from '@accel/kernels';

/** A moment at which a method may evict. */
export interface Step {
  /** Rows per layer and head that the policy was made for. */
  readonly capacity: number;
  readonly phase: 'prefill' | 'decode';
  /** 0 is the first prompt. */
  readonly turn: number;
  /** Rows before eviction, this step's included. */
  readonly rows: number;
  /** Of the `layers` of the model, for methods that treat layers differently. */
  readonly layer: number;
  readonly layers: number;
}

/** An option set that must be refused. */
export interface BadOptions {
  readonly title: string;
  /** Calls the method's function, or anything else that must throw. */
  readonly make: () => unknown;
  readonly code: AccelErrorCode;
}

/** What {@link conformance} needs to know about a method. */
export interface ConformanceOptions {
  /** Which form of the method, when the suite runs for several. Default none. */
  readonly form?: string;
  /**
   * A policy of the method that aims at `capacity` rows per layer and kv head, everything it protects included. Asked
   * for capacities from {@link SMALL} on.
   */
  readonly policy: (capacity: number) => Policy;
  /** Rows that stay per layer and kv head. Default: at most `capacity`, after prefill and after every decode step. */
  readonly kept?: (step: Step) => number;
  /** Names of the kernels that must have run when the method acted, besides the built-in ones. */
  readonly kernels: readonly string[];
  /** Default none. */
  readonly badOptions?: readonly BadOptions[];
  /** Tests against the method's own goldens; registers them, once for each device. Default none. */
  readonly parity?: (device: string) => void;
}

/** What the groups of tests share. */
export interface Suite extends Required<Omit<ConformanceOptions, 'form' | 'parity'>> {
  readonly method: Method;
  readonly device: string;
  /** The random model on this device, float32. */
  readonly model: () => Model;
}

/** Rows that prompts of the suite are compressed to. */
export const SMALL = 64;
/** A prompt that fits {@link SMALL}. */
export const SHORT_PROMPT = 48;
/** A prompt that does not. */
export const LONG_PROMPT = 200;
