import type { ModelDescription, ModelSpec, RopeScaling } from '@accel/core';
import { formatBytes, formatCount } from '../format.js';

/** Facts about a model: names and what they are, in the order in which they are printed. */
export type Facts = readonly (readonly [name: string, text: string])[];

/** What a model is, line by line. */
export function modelFacts({ blueprint, parameters, files, tokenizer }: ModelDescription): Facts {
  const { spec } = blueprint;
  const { layers, hiddenSize, intermediateSize, heads, kvHeads, headDim } = spec;
  const row = 2 * layers * kvHeads * headDim;
  const stored = [...files.formats].map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  return [
    ['model', `${spec.name} (${spec.architecture})`],
    ['shape', `${layers} layers, hidden ${hiddenSize}, MLP ${intermediateSize}`],
    ['attention', `${heads} query heads, ${kvHeads} kv heads of ${headDim}${windowText(spec)}`],
    ['context', `${formatCount(spec.contextLength)} tokens, ${ropeText(spec)}`],
    [
      'vocabulary',
      `${formatCount(spec.vocabSize)}${spec.tiedEmbeddings ? ', embeddings tied' : ''}`,
    ],
    ['parameters', `${formatBillions(parameters)} (${formatCount(parameters)})`],
    [
      'weights',
      `${formatBytes(2 * parameters)} in 16 bits, ${formatBytes(4 * parameters)} in float32`,
    ],
    ['files', `${files.format}, ${filesText(files.count)}: ${stored.join(', ')}`],
    ['tokenizer', tokenizerText(tokenizer)],
    ['ends with', endsText(tokenizer, spec)],
    ['KV a token', `${formatBytes(2 * row)} in 16 bits, ${formatBytes(4 * row)} in float32`],
  ];
}

/** Facts as lines, names in a column. */
export function renderFacts(facts: Facts, bold: (text: string) => string): string {
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, text]) => `${bold(name.padEnd(width))}  ${text}\n`).join('');
}

function windowText({ slidingWindow }: ModelSpec): string {
  if (slidingWindow === undefined) return '';
  const { tokens, fromLayer } = slidingWindow;
  const from = fromLayer === 0 ? '' : ` from layer ${fromLayer} on`;
  return `, sliding window of ${formatCount(tokens)}${from}`;
}

function ropeText({ rope, ropeTheta, rotaryDim, headDim }: ModelSpec): string {
  const part = rotaryDim === headDim ? '' : `, ${rotaryDim} of ${headDim} dimensions`;
  return `rope ${ropeName(rope)}, base ${formatCount(ropeTheta)}${part}`;
}

function ropeName(rope: RopeScaling): string {
  return 'factor' in rope ? `${rope.kind} × ${rope.factor}` : rope.kind;
}

function tokenizerText(tokenizer: ModelDescription['tokenizer']): string {
  if (tokenizer === undefined) return 'none: token ids only';
  const template = tokenizer.hasChatTemplate ? 'chat template' : 'no chat template';
  return `${formatCount(tokenizer.vocabSize)} tokens, ${template}`;
}

function endsText(tokenizer: ModelDescription['tokenizer'], { eosTokenIds }: ModelSpec): string {
  const stops = tokenizer?.stops ?? eosTokenIds.map((id) => ({ id, text: '' }));
  return (
    stops.map(({ id, text }) => (text === '' ? `${id}` : `${id} ${text}`)).join(', ') || 'nothing'
  );
}

function filesText(count: number): string {
  return count === 1 ? '1 file' : `${count} files`;
}

function formatBillions(parameters: number): string {
  const [value, unit] =
    parameters >= 1e9 ? [parameters / 1e9, 'billion'] : [parameters / 1e6, 'million'];
  return `${value.toFixed(2)} ${unit}`;
}
