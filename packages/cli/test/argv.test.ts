import { describe, expect, it } from 'vitest';
import { normaliseArgv } from '../src/argv.js';

describe('normaliseArgv', () => {
  it.each([
    [
      ['--model_path', '/m'],
      ['--model-path', '/m'],
    ],
    [['--cfg_path=a_b.yaml'], ['--cfg-path=a_b.yaml']],
    [
      ['--torch_dtype', 'torch.bfloat16'],
      ['--torch-dtype', 'torch.bfloat16'],
    ],
    [
      ['--Save_Tag', 'My_Run'],
      ['--save-tag', 'My_Run'],
    ],
    [
      ['eval', '--limit', '-1'],
      ['eval', '--limit', '-1'],
    ],
    [
      ['-h', '--help'],
      ['-h', '--help'],
    ],
  ])('%j becomes %j', (given, expected) => {
    expect(normaliseArgv(given)).toEqual(expected);
  });

  it('leaves values alone, even ones with underscores', () => {
    expect(normaliseArgv(['generate', 'snake_case_prompt', '--stop', 'a_b'])).toEqual([
      'generate',
      'snake_case_prompt',
      '--stop',
      'a_b',
    ]);
  });

  it('leaves everything after -- alone', () => {
    expect(normaliseArgv(['--max_tokens', '1', '--', '--my_prompt'])).toEqual([
      '--max-tokens',
      '1',
      '--',
      '--my_prompt',
    ]);
  });
});
