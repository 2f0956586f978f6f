import { readFile } from 'node:fs/promises';
import {
  AccelError,
  type GenerateOptions,
  type Model,
  type Policy,
  type TokenEvent,
} from '@accel/core';
import { Command } from 'commander';
import { type ChatForm, encodePrompt, type Prompt, renderPrompt } from '../prompt.js';
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
  system?: string;
  chatTemplate?: string;
  showPrompt?: boolean;
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
    .option('--system <text>', 'with --chat: the system message in front of it')
    .option('--chat-template <path>', "with --chat: a Jinja file instead of the model's template")
    .option('--show-prompt', 'print the exact prompt, its ids and the stop ids, on standard error')
    .option(
      '--model-path <model>',
      'folder, .gguf file, or org/name of accel pull (default: the embedded needle model)',
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
  const chat = await chatOf(options);
  using model = await openModel(io, {
    path: options.modelPath,
    device,
    dtype: options.torchDtype,
  });
  await writeContinuation(io, model, policy, encodePrompt(model, text, chat), options);
}

/** How the prompt becomes a conversation; undefined when it stays as it is. */
async function chatOf(options: GenerateCliOptions): Promise<ChatForm | undefined> {
  const { chat = false, system, chatTemplate } = options;
  if (!chat) {
    const given = system !== undefined ? '--system' : chatTemplate && '--chat-template';
    if (given !== undefined) throw new UsageError(`${given} is about chats; add --chat.`);
    return undefined;
  }
  return {
    ...(system !== undefined && { system }),
    ...(chatTemplate !== undefined && {
      template: await readText(chatTemplate, 'chat template', '--chat-template'),
    }),
  };
}

async function readPrompt(io: Io, argument?: string, file?: string): Promise<string> {
  if (argument !== undefined && file !== undefined) {
    throw new UsageError('the prompt was given twice: as an argument and by --prompt-file.');
  }
  const text =
    argument ??
    (file === undefined ? await readPiped(io) : await readText(file, 'prompt', '--prompt-file'));
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

async function readText(path: string, what: string, option: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read the ${what} file ${path}: ${(error as Error).message}. Check ${option}.`,
      { cause: error },
    );
  }
}

async function writeContinuation(
  io: Io,
  model: Model,
  policy: Policy,
  prompt: Prompt,
  options: GenerateCliOptions,
): Promise<void> {
  if (options.showPrompt === true && options.json !== true) {
    io.stderr.write(renderPrompt(prompt, model.tokenizer));
  }
  using sequence = model.sequence({ policy, strict: options.strict === true });
  await sequence.append(prompt.ids, { signal: io.signal });
  const events: TokenEvent[] = [];
  try {
    for await (const event of sequence.generate(samplingOf(options, prompt, io.signal))) {
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
      promptTokens: prompt.ids.length,
      ...(options.showPrompt === true && {
        prompt: { text: prompt.text, ids: [...prompt.ids], stopIds: prompt.stopIds },
      }),
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

function samplingOf(
  options: GenerateCliOptions,
  prompt: Prompt,
  signal: AbortSignal,
): GenerateOptions {
  return {
    maxTokens: options.maxTokens,
    temperature: options.temperature,
    ...(options.topK !== undefined && { topK: options.topK }),
    ...(options.topP !== undefined && { topP: options.topP }),
    ...(options.minP !== undefined && { minP: options.minP }),
    ...(options.seed !== undefined && { seed: options.seed }),
    ...(options.stop !== undefined && { stop: options.stop }),
    stopTokens: prompt.stopIds,
    signal,
  };
}
