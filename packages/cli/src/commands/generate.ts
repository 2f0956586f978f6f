import { readFile } from 'node:fs/promises';
import {
  AccelError,
  type GenerateOptions,
  type Model,
  type Policy,
  type TokenEvent,
} from '@accel/core';
import { Command } from 'commander';
import { UsageError } from '../errors.js';
import { listSnakeCase } from '../help.js';
import { readAll, type Io } from '../io.js';
import { parseConfigs, resolvePolicy } from '../methods/policy.js';
import { openModel } from '../model.js';
import { colorsFor } from '../ui/colors.js';
import { renderReceipt } from '../ui/receipt.js';
import { collect, numberOption, parseDevice, parseDtype, type DtypeName } from '../values.js';

interface GenerateCliOptions {
  promptFile?: string;
  chat?: boolean;
  modelPath?: string;
  acceleration?: string;
  config?: string[];
  maxTokens: number;
  temperature: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed?: number;
  stop?: string[];
  device?: string;
  torchDtype: DtypeName;
  strict?: boolean;
  receipt?: boolean;
  json?: boolean;
}

/** `accel generate`: one prompt in, text out as it is made. */
export function generateCommand(io: Io): Command {
  const command = new Command('generate')
    .summary('continue a prompt')
    .description(
      'Continue a prompt; the text streams to standard output.\n' +
        'The prompt is the argument, a file, or what is piped in.',
    )
    .argument('[prompt]', 'text to continue')
    .option('--prompt-file <path>', 'read the prompt from a file')
    .option('--chat', "wrap the prompt as a user's message with the model's chat template")
    .option(
      '--model-path <dir>',
      'Hugging Face model directory (default: the embedded needle model)',
    )
    .option('--acceleration <method>', 'method, or several joined with +; full for none', 'full')
    .option('--config <method=yaml>', "a method's options: a YAML file, or paper or loom", collect)
    .option(
      '--max-tokens <n>',
      'stop after this many tokens',
      numberOption('--max-tokens', { min: 1, integer: true }),
      128,
    )
    .option(
      '--temperature <t>',
      '0 always takes the likeliest token',
      numberOption('--temperature', { min: 0 }),
      0,
    )
    .option(
      '--top-k <n>',
      'sample from the n likeliest tokens',
      numberOption('--top-k', { min: 1, integer: true }),
    )
    .option(
      '--top-p <p>',
      'sample from the smallest set with this probability',
      numberOption('--top-p', { min: 0, max: 1 }),
    )
    .option(
      '--min-p <p>',
      'drop tokens below this share of the likeliest',
      numberOption('--min-p', { min: 0, max: 1 }),
    )
    .option('--seed <n>', 'seed of the sampler', numberOption('--seed', { min: 0, integer: true }))
    .option('--stop <text>', 'stop before this text; may be repeated', collect)
    .option('--device <id>', 'cpu, cuda or cuda:N (a number N means cuda:N)')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .option('--strict', 'fail when a method never acted or a fallback ran')
    .option('--receipt', 'print what the cache kept, on standard error')
    .option('--json', 'print one JSON object at the end instead of streaming')
    .action((prompt: string | undefined, options: GenerateCliOptions) =>
      runGenerate(io, prompt, options),
    );
  return listSnakeCase(command);
}

async function runGenerate(
  io: Io,
  argument: string | undefined,
  options: GenerateCliOptions,
): Promise<void> {
  const configs = parseConfigs(options.config ?? []);
  const { policy } = await resolvePolicy(options.acceleration ?? 'full', configs);
  const device = parseDevice(options.device === undefined ? undefined : [options.device]);
  const text = await readPrompt(io, argument, options.promptFile);
  using model = await openModel(io, {
    path: options.modelPath,
    device,
    dtype: options.torchDtype,
  });
  await writeContinuation(io, model, policy, text, options);
}

async function readPrompt(io: Io, argument?: string, file?: string): Promise<string> {
  if (argument !== undefined && file !== undefined) {
    throw new UsageError('the prompt was given twice: as an argument and by --prompt-file.');
  }
  const text = argument ?? (file === undefined ? await readPiped(io) : await readPromptFile(file));
  if (text === '') throw new UsageError('the prompt is empty.');
  return text;
}

async function readPiped(io: Io): Promise<string> {
  if (io.stdin.isTTY === true) {
    throw new UsageError(
      'there is no prompt. Give it as an argument, with --prompt-file, or pipe it in.',
    );
  }
  return readAll(io.stdin);
}

async function readPromptFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read the prompt file ${path}: ${(error as Error).message}. Check --prompt-file.`,
      { cause: error },
    );
  }
}

/** The ids that go into the model: raw text behind the special tokens, or one chat message. */
function encodePrompt(model: Model, text: string, chat: boolean): Int32Array {
  const { tokenizer } = model;
  if (!chat) return tokenizer.encode(text, { addSpecial: true });
  if (!tokenizer.hasChatTemplate) {
    throw new AccelError(
      'ERR_ACCEL_TOKENIZER',
      `${model.spec.name} has no chat template. Leave out --chat to continue the text as it is.`,
    );
  }
  // The template writes the special tokens itself; adding them again would give the model two.
  return tokenizer.encode(tokenizer.chat([{ role: 'user', content: text }]), { addSpecial: false });
}

async function writeContinuation(
  io: Io,
  model: Model,
  policy: Policy,
  text: string,
  options: GenerateCliOptions,
): Promise<void> {
  const tokens = encodePrompt(model, text, options.chat === true);
  using sequence = model.sequence({ policy, strict: options.strict === true });
  await sequence.append(tokens, { signal: io.signal });
  const events: TokenEvent[] = [];
  try {
    for await (const event of sequence.generate(samplingOf(options, io.signal))) {
      events.push(event);
      if (options.json !== true) io.stdout.write(event.text);
    }
  } finally {
    // Whatever ends the stream, the next prompt of the shell starts on a line of its own.
    if (options.json !== true && events.length > 0) io.stdout.write('\n');
  }
  const receipt = sequence.receipt();
  if (options.json === true) {
    const result = {
      model: model.spec.name,
      promptTokens: tokens.length,
      text: events.map((event) => event.text).join(''),
      tokens: events.map((event) => event.id),
      finish: events.at(-1)?.finish,
      receipt,
    };
    io.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  }
  if (options.receipt === true) {
    io.stderr.write(renderReceipt(receipt, model, colorsFor(io.stderr, io.env)));
  }
}

function samplingOf(options: GenerateCliOptions, signal: AbortSignal): GenerateOptions {
  return {
    maxTokens: options.maxTokens,
    temperature: options.temperature,
    ...(options.topK !== undefined && { topK: options.topK }),
    ...(options.topP !== undefined && { topP: options.topP }),
    ...(options.minP !== undefined && { minP: options.minP }),
    ...(options.seed !== undefined && { seed: options.seed }),
    ...(options.stop !== undefined && { stop: options.stop }),
    signal,
  };
}
