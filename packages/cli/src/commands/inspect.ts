import { Command } from 'commander';
import { listSnakeCase } from '../help.js';
import { inspectAttention, type AttentionCliOptions } from '../inspect/attention-command.js';
import { cardNames } from '../inspect/cards.js';
import { DEFAULT_POLICIES, inspectModel, type ModelCliOptions } from '../inspect/model-command.js';
import type { Io } from '../io.js';
import { collect, numberOption, parseDtype } from '../values.js';

type InspectCliOptions = Omit<AttentionCliOptions & ModelCliOptions, 'path'> & {
  readonly attention?: boolean;
  readonly modelPath?: string;
};

/** `accel inspect`: what a model is and what memory it takes, or what it attends to while it reads a prompt. */
export function inspectCommand(io: Io): Command {
  const command = new Command('inspect')
    .summary('show what a model is and what memory it takes')
    .description(
      'Show what a model is, from the headers of its files, and what memory it takes by context,\n' +
        'policy and batch. With --attention: what a sparse prefill does to a prompt, one HTML file with,\n' +
        'for every layer and head, the blocks that were computed beside where the attention lies. It\n' +
        'opens offline.',
    )
    .argument(
      '[model]',
      'folder, .gguf file, or org/name of accel pull (default: the embedded needle model)',
    )
    .option('--model-path <model>', 'the same, as an option')
    .option(
      '--card <card>',
      `where it is to run: ${cardNames.join(', ')}, cpu, or memory such as 24GiB (default: the first GPU, else this machine)`,
    )
    .option(
      '--contexts <tokens>',
      "tokens of prompts, such as 4096,32k (default: up to the model's context)",
    )
    .option(
      '--policies <methods>',
      'methods, with commas; + composes; full for none',
      DEFAULT_POLICIES,
    )
    .option('--batch <n>', 'sequences at a time, with commas', '1')
    .option('--json', 'print JSON')
    .option('--attention', 'inspect the blocks of the attention of a prompt instead')
    .option(
      '--acceleration <method>',
      'XAttention, FlexPrefill or another method that chooses blocks; full for none',
      'full',
    )
    .option('--config <method=yaml>', "a method's options: a YAML file, or paper or loom", collect)
    .option('--prompt-file <path>', 'read the prompt from a file (default: a needle in an essay)')
    .option(
      '--tokens <n>',
      'length of the made-up prompt, or where that of a file is cut (default: 4096, the whole file)',
      numberOption('--tokens', { min: 1, integer: true }),
    )
    .option('--output <file>', 'the HTML file', 'attention.html')
    .option('--device <id>', 'cpu, cuda or cuda:N (a number N means cuda:N)')
    .option(
      '--torch-dtype <dtype>',
      'float32, bfloat16, float16 or auto; torch.bfloat16 works too',
      parseDtype,
      'auto',
    )
    .action(async (model: string | undefined, { modelPath, ...options }: InspectCliOptions) => {
      const path = model ?? modelPath;
      if (options.attention === true) await inspectAttention(io, { ...options, path });
      else await inspectModel(io, { ...options, path });
    });
  return listSnakeCase(command);
}
