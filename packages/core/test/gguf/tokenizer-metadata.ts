import { tokenizerJson } from '../tokenizer/goldens.js';
import type { GgufValue } from './writer.js';

interface TokenizerJson {
  added_tokens: { id: number; content: string; special: boolean }[];
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
}

/** llama.cpp's name for the way in which a golden tokenizer cuts text; undefined for SentencePiece. */
const pre: Readonly<Record<string, string>> = {
  'needle-7m': 'smollm',
  'llama-3.1': 'llama-bpe',
  qwen3: 'qwen2',
  'bytelevel-llama3': 'llama-bpe',
  'bytelevel-qwen2': 'qwen2',
  'bytelevel-glm4': 'chatglm-bpe',
};

const [NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE] = [1, 2, 3, 4, 5, 6];

/** A golden tokenizer as llama.cpp's converter would write it into a file's metadata. */
export function tokenizerMetadata(name: string): Record<string, GgufValue> {
  const { added_tokens: added, model } = JSON.parse(tokenizerJson(name)) as TokenizerJson;
  const texts: string[] = [];
  const types: number[] = [];
  for (const [text, id] of Object.entries(model.vocab)) {
    texts[id] = text;
    types[id] = /^<0x[0-9A-F]{2}>$/.test(text) ? BYTE : NORMAL;
  }
  for (const { id, content, special } of added) {
    texts[id] = content;
    types[id] = content === '<unk>' ? UNKNOWN : special ? CONTROL : USER_DEFINED;
  }
  // Ids without a token are filled up.
  const all = Array.from(texts, (text: string | undefined, id) => text ?? `[PAD${id}]`);
  const metadata: Record<string, GgufValue> = {
    'tokenizer.ggml.model': { text: pre[name] === undefined ? 'llama' : 'gpt2' },
    'tokenizer.ggml.pre': { text: pre[name] ?? 'default' },
    'tokenizer.ggml.tokens': { texts: all },
    'tokenizer.ggml.token_type': { i32s: all.map((_, id) => types[id] ?? UNUSED) },
    ...special(all),
    // Converters take it from tokenizer_config.json; the other kinds have it by themselves.
    ...(name === 'needle-7m' && { 'tokenizer.ggml.add_bos_token': { bool: true } }),
  };
  if (pre[name] !== undefined) {
    const merges = model.merges.map((pair) => (typeof pair === 'string' ? pair : pair.join(' ')));
    return { ...metadata, 'tokenizer.ggml.merges': { texts: merges } };
  }
  return { ...metadata, 'tokenizer.ggml.scores': { f32s: scores(all, model.merges) } };
}

/** Scores fall in the order in which merges were learnt; pieces that are no merge are not compared. */
function scores(texts: readonly string[], merges: TokenizerJson['model']['merges']): number[] {
  const ranks = new Map<string, number>();
  for (const merge of merges) {
    const piece = typeof merge === 'string' ? merge.replace(' ', '') : merge.join('');
    if (!ranks.has(piece)) ranks.set(piece, ranks.size);
  }
  return texts.map((text) => -(ranks.get(text) ?? 1e6));
}

function special(texts: readonly string[]): Record<string, GgufValue> {
  const roles: Readonly<Record<string, readonly string[]>> = {
    bos: ['<s>', '<|begin_of_text|>'],
    eos: ['</s>', '<|eot_id|>', '<|end_of_text|>', '<|im_end|>', '<|endoftext|>'],
    unknown: ['<unk>'],
  };
  const found = Object.entries(roles).map(([role, names]): [string, number | undefined] => [
    `tokenizer.ggml.${role}_token_id`,
    names.map((name) => texts.indexOf(name)).find((id) => id >= 0),
  ]);
  return Object.fromEntries(
    found.filter(([, id]) => id !== undefined).map(([key, id]) => [key, { u32: id ?? 0 }]),
  );
}
