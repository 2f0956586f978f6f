/** Every code an {@link AccelError} can carry. A code keeps its meaning between versions; messages may change. */
export type AccelErrorCode =
  /** A tensor has another shape than the op or the file needs. */
  | 'ERR_ACCEL_SHAPE'
  /** A tensor has another element type than the op or the file needs. */
  | 'ERR_ACCEL_DTYPE'
  /** An argument or option is outside its range. */
  | 'ERR_ACCEL_ARGUMENT'
  /** The device that was asked for does not exist here. */
  | 'ERR_ACCEL_NO_DEVICE'
  /** A GPU was asked for, and none can be used here: no driver, no device, an old one, or no CUDA backend library. */
  | 'ERR_ACCEL_DEVICE_UNAVAILABLE'
  /** Device memory or the page pool is used up. */
  | 'ERR_ACCEL_OUT_OF_MEMORY'
  /** An op library was built for another version of the op ABI. */
  | 'ERR_ACCEL_OP_ABI'
  /** A library does not have the op that was asked for. */
  | 'ERR_ACCEL_OP_UNKNOWN'
  /** An op library cannot be loaded. */
  | 'ERR_ACCEL_OP_LIBRARY'
  /** The native addon is missing or cannot be loaded. */
  | 'ERR_ACCEL_NATIVE_MISSING'
  /** A disposed object was used. */
  | 'ERR_ACCEL_DISPOSED'
  /** Rows cannot be dropped in place because there is a gap elsewhere. */
  | 'ERR_ACCEL_KV_GAP'
  /** A tensor that must be finite holds NaN or infinity. */
  | 'ERR_ACCEL_NAN'
  /** A defect of this package. */
  | 'ERR_ACCEL_INTERNAL'
  /** A file cannot be read or written. */
  | 'ERR_ACCEL_FILE'
  /** The Hugging Face Hub does not have it, refuses it or cannot be reached. */
  | 'ERR_ACCEL_HUB'
  /** Downloaded contents are not those that were promised. */
  | 'ERR_ACCEL_CHECKSUM'
  /** A weight file is damaged or does not fit the model. */
  | 'ERR_ACCEL_WEIGHTS'
  /** A file with a saved sequence is damaged, or does not fit the model or the policy. */
  | 'ERR_ACCEL_SAVED_SEQUENCE'
  /** A model configuration lacks a key or has an invalid one. */
  | 'ERR_ACCEL_CONFIG'
  /** The model's architecture is not supported. */
  | 'ERR_ACCEL_ARCHITECTURE'
  /** A tokenizer or chat template is missing or invalid. */
  | 'ERR_ACCEL_TOKENIZER'
  /** A budget is zero, out of range or smaller than what must be kept. */
  | 'ERR_ACCEL_BUDGET'
  /** A policy, a part or one of its options is not legal. */
  | 'ERR_ACCEL_POLICY'
  /** No method has this name. */
  | 'ERR_ACCEL_METHOD_UNKNOWN'
  /** The prompt does not fit the model's window. */
  | 'ERR_ACCEL_PROMPT_TOO_LONG'
  /** An AbortSignal stopped the work. */
  | 'ERR_ACCEL_ABORTED'
  /** Strict mode: a configured part never acted, or a fallback ran. */
  | 'ERR_ACCEL_STRICT'
  /** A YAML or JSON file cannot be parsed. */
  | 'ERR_ACCEL_YAML'
  /** The members of a batch do not fit together. */
  | 'ERR_ACCEL_BATCH'
  /** A sequence is in use by another call, or a download by another process. */
  | 'ERR_ACCEL_BUSY'
  /** An earlier failure left the sequence incomplete. */
  | 'ERR_ACCEL_SEQUENCE_FAILED'
  /** A worker process cannot be started, or died with its work more often than it is retried. */
  | 'ERR_ACCEL_WORKER'
  /** The broker of a job queue cannot be reached or refuses, or a client for it is not installed. */
  | 'ERR_ACCEL_QUEUE'
  /** A model server cannot be reached, refuses, or answers what its protocol does not allow. */
  | 'ERR_ACCEL_ENDPOINT';

/** Registered, so that two copies of this package in one process know each other's errors. */
const marker = Symbol.for('@accel/kernels/AccelError');

/**
 * The one error type of the toolkit: a stable {@link AccelError.code}, and a message that says what was wrong and
 * what to do about it. The failure underneath, if any, is the `cause`.
 */
export class AccelError extends Error {
  readonly code: AccelErrorCode;

  constructor(code: AccelErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AccelError';
    this.code = code;
    Object.defineProperty(this, marker, { value: true });
  }

  /** True for an error of this type, from whichever copy of the package it came. */
  static isInstance(error: unknown): error is AccelError {
    return typeof error === 'object' && error !== null && marker in error;
  }
}
