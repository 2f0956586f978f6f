import type { Metadata } from './metadata.js';
import { findPreTokenizer } from './pre-tokenizers.js';
import type { TokenizerModel } from './tokenizer-model.js';
import { type Vocabulary, TokenType } from './vocabulary.js';

/** `tokenizer.ggml.model` = `gpt2`: BPE over bytes, with the merges of the original tokenizer. */
export function byteLevelModel(
  file: string,
  metadata: Metadata,
  { tokens }: Vocabulary,
): TokenizerModel {
  // A file of before these names were written says nothing; llama.cpp takes the same for it.
  const pre = findPreTokenizer(file, metadata.text('tokenizer.ggml.pre') ?? 'default');
  const ordinary = tokens.filter(
    ({ type }) => type !== TokenType.control && type !== TokenType.userDefined,
  );
  return {
    normalizer: pre.normalizer,
    pre_tokenizer: pre.preTokenizer,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges ?? false,
      vocab: Object.fromEntries(ordinary.map(({ text, id }) => [text, id])),
      merges: readMerges(metadata),
    },
    addBos: pre.addBos ?? false,
    prefix: pre.prefix ?? [],
  };
}

/** Pairs of tokens with a space between them; a space inside a token is written as another character. */
function readMerges(metadata: Metadata): readonly string[] {
  const key = 'tokenizer.ggml.merges';
  const merges = metadata.texts(key);
  if (merges === undefined) {
    throw metadata.error(key, 'is missing. Convert the checkpoint to GGUF again.');
  }
  for (const [i, merge] of merges.entries()) {
    const at = merge.indexOf(' ');
    if (at > 0 && at + 1 < merge.length && !merge.includes(' ', at + 1)) continue;
    throw metadata.error(
      key,
      `has ${JSON.stringify(merge.slice(0, 40))} at ${i}, which is no pair of tokens.`,
    );
  }
  return merges;
}
