import { AccelError } from '@accel/kernels';

/** How a byte-level BPE tokenizer treats a text before its merges; the objects are parts of a tokenizer.json. */
export interface PreTokenizer {
  readonly normalizer: object | null;
  readonly preTokenizer: object;
  /** Words that are tokens need no merges. Default false. */
  readonly ignoreMerges?: boolean;
  /** The beginning-of-text token goes in front where the file does not say. Default false. */
  readonly addBos?: boolean;
  /** Tokens that go in front whatever the file says, if it has them all. Default none. */
  readonly prefix?: readonly string[];
}

/** Bytes become printable characters; `words` cuts the text as GPT-2 does first. */
const byteLevel = (words: boolean): object => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: words,
});

const split = (regex: string): object => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});

const sequence = (...pretokenizers: object[]): object => ({ type: 'Sequence', pretokenizers });

/** Llama 3's pattern (it comes from GPT-4's) with so many digits in a token. */
const words = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** Mistral's Tekken: words end where a capital begins. */
const TEKKEN = [
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+',
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*',
  '\\p{N}',
  ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*',
  '\\s*[\\r\\n]+',
  '\\s+(?!\\S)',
  '\\s+',
].join('|');

/** What llama.cpp does to a text whose pre-tokenizer is not known; each step cuts the pieces of the one before. */
const UNKNOWN = [
  split('[\\p{P}\\$\\+<=>\\^~\\|]+'),
  split("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"),
  split('\\p{N}+'),
  split('[0-9][0-9][0-9]'),
];

const llama3: PreTokenizer = {
  normalizer: null,
  preTokenizer: sequence(split(words('\\p{N}{1,3}')), byteLevel(false)),
  ignoreMerges: true,
  addBos: true,
};
const qwen2: PreTokenizer = {
  normalizer: { type: 'NFC' },
  preTokenizer: sequence(split(words('\\p{N}')), byteLevel(false)),
};
const glm4: PreTokenizer = {
  normalizer: null,
  preTokenizer: sequence(split(words('\\p{N}{1,3}')), byteLevel(false)),
  prefix: ['[gMASK]', '<sop>'],
};

/** By `tokenizer.ggml.pre`; the names are llama.cpp's (src/llama-vocab.cpp), the contents those of the tokenizers themselves. */
const preTokenizers: Readonly<Record<string, PreTokenizer>> = {
  'llama-bpe': llama3,
  llama3,
  'llama-v3': llama3,
  'smaug-bpe': { normalizer: null, preTokenizer: llama3.preTokenizer },
  qwen2,
  'deepseek-r1-qwen': qwen2,
  'chatglm-bpe': glm4,
  glm4,
  tekken: {
    normalizer: null,
    preTokenizer: sequence(split(TEKKEN), byteLevel(false)),
    ignoreMerges: true,
    addBos: true,
  },
  smollm: {
    normalizer: null,
    preTokenizer: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)),
  },
  'gpt-2': { normalizer: null, preTokenizer: byteLevel(true) },
  default: { normalizer: null, preTokenizer: sequence(...UNKNOWN, byteLevel(false)) },
};

/** @throws AccelError `ERR_ACCEL_TOKENIZER` that names those that are known */
export function findPreTokenizer(file: string, name: string): PreTokenizer {
  const known = Object.hasOwn(preTokenizers, name) ? preTokenizers[name] : undefined;
  if (known !== undefined) return known;
  throw new AccelError(
    'ERR_ACCEL_TOKENIZER',
    `${file}: tokenizer.ggml.pre is ${JSON.stringify(name.slice(0, 40))}, a way of cutting text that is not supported; with another one the model would read other tokens. ` +
      `Supported: ${Object.keys(preTokenizers).join(', ')}. Load the model from its Hugging Face folder instead.`,
  );
}
