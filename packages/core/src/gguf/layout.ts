import type { ModelSpec } from '../config/spec.js';
import type { FusedRows, LayerNames, Layout } from '../models/family.js';

/** In what the layers of an architecture differ from Llama's. */
export interface LayerTraits {
  /** RMSNorm on each query and key head. */
  readonly headNorms?: boolean;
  /** Gate and up are one matrix, gate first. */
  readonly fusedMlp?: boolean;
  /** Norms of what attention and MLP add to the residual stream. */
  readonly outNorms?: boolean;
}

/** The tensors in front of and behind the layers. */
export const outerNames = {
  embed: 'token_embd.weight',
  norm: 'output_norm.weight',
  lmHead: 'output.weight',
} as const;

/**
 * llama.cpp's names. Biases, and whether queries, keys and values are one matrix, are left to the converter; the first
 * layer tells for all of them, so a tensor that another layer lacks is an error and not a bias left out.
 * @param has whether the file has a tensor of this name
 */
export function ggufLayout(
  spec: ModelSpec,
  traits: LayerTraits,
  has: (name: string) => boolean,
): Layout {
  const first = (name: string): boolean => has(`blk.0.${name}`);
  const fusedQkv = first('attn_qkv.weight');
  const fusedBias = first('attn_qkv.bias');
  const separateBias = first('attn_q.bias');
  const outBias = first('attn_output.bias');
  return {
    ...outerNames,
    inside: 'blk.',
    // Conversions of long ago stored frequencies that are computed from the metadata.
    unused: /\.attn_rot_embd$/,
    layer(index) {
      const at = `blk.${String(index)}`;
      const weights = fusedQkv ? qkvRows(`${at}.attn_qkv.weight`, spec) : qkvNames(at, 'weight');
      const biases = fusedBias ? qkvRows(`${at}.attn_qkv.bias`, spec) : qkvNames(at, 'bias');
      return {
        inputNorm: `${at}.attn_norm.weight`,
        ...weights,
        ...((fusedBias || separateBias) && { qBias: biases.q, kBias: biases.k, vBias: biases.v }),
        o: `${at}.attn_output.weight`,
        ...(outBias && { oBias: `${at}.attn_output.bias` }),
        ...(traits.headNorms && {
          qNorm: `${at}.attn_q_norm.weight`,
          kNorm: `${at}.attn_k_norm.weight`,
        }),
        postNorm: `${at}.ffn_norm.weight`,
        ...mlp(at, spec, traits.fusedMlp ?? false),
        ...(traits.outNorms && {
          attentionOutNorm: `${at}.post_attention_norm.weight`,
          mlpOutNorm: `${at}.post_ffw_norm.weight`,
        }),
      };
    },
  };
}

type Qkv = Pick<LayerNames, 'q' | 'k' | 'v'>;

function qkvNames(at: string, kind: 'weight' | 'bias'): Qkv {
  return { q: `${at}.attn_q.${kind}`, k: `${at}.attn_k.${kind}`, v: `${at}.attn_v.${kind}` };
}

function qkvRows(name: string, { heads, kvHeads, headDim }: ModelSpec): Qkv {
  const q = heads * headDim;
  const kv = kvHeads * headDim;
  const rows = (begin: number, end: number): FusedRows => ({ name, begin, end, of: q + 2 * kv });
  return { q: rows(0, q), k: rows(q, q + kv), v: rows(q + kv, q + 2 * kv) };
}

function mlp(
  at: string,
  { intermediateSize: size }: ModelSpec,
  fused: boolean,
): Pick<LayerNames, 'gate' | 'up' | 'down'> {
  const down = `${at}.ffn_down.weight`;
  const name = `${at}.ffn_up.weight`;
  if (!fused) return { gate: `${at}.ffn_gate.weight`, up: name, down };
  return {
    gate: { name, begin: 0, end: size, of: 2 * size },
    up: { name, begin: size, end: 2 * size, of: 2 * size },
    down,
  };
}
