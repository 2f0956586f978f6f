// The shapes of Llama-3.1-8B (its config.json), which every part measures.
export const LLAMA = {
  hidden: 4096,
  intermediate: 14336,
  layers: 32,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  vocab: 128256,
};
