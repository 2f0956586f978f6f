import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describeModel, estimateMemory, full, type MemoryEstimate } from '@accel/core';
import { missing, sharedPath, writeTinyCheckpoint } from '@accel/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cardNames, parseCard } from '../src/inspect/cards.js';
import { accel } from './fake-io.js';
import { LLAMA_70B, LLAMA_8B, writeSparseModel, type SparseModel } from './sparse-model.js';

let model: SparseModel;
beforeAll(() => {
  model = writeSparseModel(LLAMA_8B, 4);
});
afterAll(() => model[Symbol.dispose]());

/** What the command prints of a model; nothing on standard error. */
async function inspect(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await accel(['inspect', ...words]);
  expect(stderr).toBe('');
  expect(exitCode).toBe(0);
  return stdout;
}

describe('accel inspect', () => {
  it('of a model of 8 billion parameters, on a card that holds some of it', async () => {
    const words = ['--card', 'a100-40', '--contexts', '4k,32k,128k', '--batch', '1,8'];
    expect(await inspect(model.path, ...words)).toMatchSnapshot();
  });

  it('prints as JSON what estimateMemory says', async () => {
    const words = ['--card', '24GiB', '--contexts', '1000', '--policies', 'full', '--json'];
    const printed = JSON.parse(await inspect(model.path, ...words)) as {
      parameters: number;
      kvBytesPerToken: { bfloat16: number };
      memory: { policies: { cells: { estimate: MemoryEstimate; fits: boolean }[] }[] };
    };
    expect(printed.parameters).toBe(8_030_261_248);
    expect(printed.kvBytesPerToken.bfloat16).toBe(131072);
    const { blueprint } = await describeModel(model.path);
    const target = { kind: 'cuda' } as const;
    const estimate = estimateMemory(blueprint, { tokens: 1000, policy: full, target });
    const [cell] = printed.memory.policies[0]?.cells ?? [];
    expect(cell).toEqual({ batch: 1, context: 1000, estimate, fits: true });
  });

  it('of the embedded model, without a word', async () => {
    const text = await inspect('--card', 'cpu', '--policies', 'full');
    expect(text).toMatch(/^model +needle \(llama\)\n/);
    expect(text).toMatch(/tokenizer +4,096 tokens, /);
    expect(text).toContain('Memory on this machine (CPU)');
  });

  it('takes the model as an option too, and other formats than its own', async () => {
    using tiny = writeTinyCheckpoint();
    const words = ['--card', 'cpu', '--contexts', '64', '--torch_dtype', 'bf16'];
    const [one, other] = [
      await inspect(tiny.path, ...words),
      await inspect('--model-path', tiny.path, ...words),
    ];
    expect(one).toBe(other);
    expect(one).toContain('bfloat16, 1 sequence');
    expect(one).toMatch(/ends with +257 <\|end_of_text\|>\n/);
  });

  it('says which policies a model cannot have, and estimates the others', async () => {
    using tiny = writeTinyCheckpoint(); // heads of 16
    const text = await inspect(tiny.path, '--card', 'cpu', '--policies', 'KIVI,full');
    expect(text).toMatch(/^KIVI +- +-/m);
    expect(text).toMatch(/^full +\d/m);
    expect(text).toContain('KIVI does not go with this model: KIVI: the head dimension 16');
  });

  it('warns of prompts beyond what the model was made for', async () => {
    const text = await inspect(model.path, '--card', 'h200', '--contexts', '4k,256k');
    expect(text).toContain('The model was made for 131,072 tokens; 256K would be beyond that.');
  });

  it.skipIf(missing('golden/models') !== undefined)('tells a sliding window', async () => {
    const text = await inspect(sharedPath('golden/models/mistral-sliding'), '--card', 'cpu');
    expect(text).toMatch(/^model +.* \(mistral\)$/m);
    expect(text).toMatch(/^attention .*, sliding window of \d+$/m);
  });

  it('reads headers alone: of 70 billion parameters too', async () => {
    using large = writeSparseModel(LLAMA_70B, 31);
    const text = await inspect(large.path, '--card', 'h100', '--policies', 'full,SnapKV');
    expect(text).toContain('70.55 billion (70,553,706,496)');
    expect(text).toContain('safetensors, 31 files: BF16 131 GiB');
    expect(text).toMatch(/^full .*✗/m);
  });

  it('refuses a checkpoint that is not complete', async () => {
    using broken = writeSparseModel(LLAMA_8B, 2);
    rmSync(join(broken.path, 'model-2-of-2.safetensors'));
    const { exitCode, stderr } = await accel(['inspect', broken.path]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('model-2-of-2.safetensors, which is not there');
  });

  it.each([
    [['--card', 'h300'], '--card takes h200, h100'],
    [['--batch', '0'], '--batch takes numbers of sequences'],
    [['--contexts', 'long'], '"long" is not a prompt length'],
    [['--policies', 'SnapKVV'], 'Did you mean'],
  ])('refuses %j', async (words, message) => {
    const { exitCode, stdout, stderr } = await accel(['inspect', model.path, ...words]);
    expect(exitCode).not.toBe(0);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
  });
});

describe('--card', () => {
  it.each(cardNames)('%s is a GPU', (name) => {
    const { bytes, target } = parseCard(name.toUpperCase());
    expect(target).toMatchObject({
      kind: 'cuda',
      isa: expect.stringMatching(/^sm_\d\d$/) as string,
    });
    expect(bytes).toBeGreaterThan(20 * 2 ** 30);
  });

  it.each([
    ['24GiB', 24 * 2 ** 30],
    ['141gb', 141e9],
    ['1.5 TiB', 1.5 * 2 ** 40],
  ])('%s is memory', (text, bytes) => {
    expect(parseCard(text)).toMatchObject({ bytes, target: { kind: 'cuda' } });
  });
});
