import type { RawConfig } from '../config/hf-config.js';
import type { Architecture, ModelSpec } from '../config/spec.js';

/** The weights of a decoder layer; those with a `?` exist in some families only. Matrices are `[out, in]`. */
export interface LayerMap<T> {
  /** RMSNorm before attention, `[hidden]`. */
  readonly inputNorm: T;
  /** `[heads · headDim, hidden]` */
  readonly q: T;
  /** `[kvHeads · headDim, hidden]` */
  readonly k: T;
  /** `[kvHeads · headDim, hidden]` */
  readonly v: T;
  /** `[hidden, heads · headDim]` */
  readonly o: T;
  readonly qBias?: T;
  readonly kBias?: T;
  readonly vBias?: T;
  readonly oBias?: T;
  /** RMSNorm of each query head before it is rotated, `[headDim]`. */
  readonly qNorm?: T;
  /** RMSNorm of each key head before it is rotated, `[headDim]`. */
  readonly kNorm?: T;
  /** RMSNorm of what attention adds to the residual stream, `[hidden]`. */
  readonly attentionOutNorm?: T;
  /** RMSNorm before the MLP, `[hidden]`. */
  readonly postNorm: T;
  /** `[intermediate, hidden]` */
  readonly gate: T;
  /** `[intermediate, hidden]` */
  readonly up: T;
  /** `[hidden, intermediate]` */
  readonly down: T;
  /** RMSNorm of what the MLP adds to the residual stream, `[hidden]`. */
  readonly mlpOutNorm?: T;
}

/** Some rows of a tensor, where a checkpoint keeps several matrices in one. */
export interface FusedRows {
  readonly name: string;
  /** First row and the row after the last. */
  readonly begin: number;
  readonly end: number;
  /** Rows of the whole tensor. */
  readonly of: number;
}

/** Where a layer's weights are in the checkpoint: tensor names, or rows of tensors. */
export type LayerNames = LayerMap<string | FusedRows>;

/** What the weights of a checkpoint are called. */
export interface Layout {
  readonly embed: string;
  readonly norm: string;
  /** Absent from the file when embeddings are tied. */
  readonly lmHead: string;
  layer(index: number): LayerNames;
  /** What the names begin with of tensors that the forward pass has to use. */
  readonly inside: string;
  /** Tensors among those that some checkpoints carry and the forward pass rightly does not use. */
  readonly unused?: RegExp;
}

/** What it takes to run a checkpoint: the numbers of the model and the names of its weights. */
export interface Blueprint {
  readonly spec: ModelSpec;
  readonly layout: Layout;
}

/**
 * One family of models: how its config is read and what its weights are called. The forward pass is written once,
 * for all of them; a new family is one more small file in this folder and an entry in families.ts.
 */
export interface Family {
  readonly id: Architecture;
  /** Values of `architectures` in config.json. */
  readonly architectures: readonly string[];
  /** @throws AccelError `ERR_ACCEL_CONFIG` naming the key */
  read(config: RawConfig, name: string): Blueprint;
}
