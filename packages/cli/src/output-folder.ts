import { access } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { AccelError } from '@accel/core';
import { UsageError } from './errors.js';

/** Options that name the folder of a run. */
export interface OutputChoice {
  readonly outputDir: string;
  readonly saveTag?: string;
  readonly resume?: boolean;
}

/**
 * Decides the folder a run writes to. Results are never overwritten: a folder that holds a run is refused unless
 * the run is to be continued.
 *
 * @param subject what the default name begins with, such as the model's path
 * @param now time in the default name
 * @throws AccelError ERR_ACCEL_FILE when there is a run already, or none to continue
 */
export async function outputFolder(
  choice: OutputChoice,
  subject: string,
  now: Date = new Date(),
): Promise<string> {
  const { saveTag, resume = false } = choice;
  if (resume && saveTag === undefined) {
    throw new UsageError('--resume needs --save-tag, the name of the run to continue.');
  }
  if (
    saveTag !== undefined &&
    (saveTag === '' || basename(saveTag) !== saveTag || /^\.+$/.test(saveTag))
  ) {
    throw new UsageError(
      `--save-tag is the name of one folder, not "${saveTag}". Use --output-dir for the path.`,
    );
  }
  const stamp = now.toISOString().slice(0, 19).replaceAll(':', '').replace('T', '-');
  const folder = resolve(choice.outputDir, saveTag ?? `${basename(resolve(subject))}-${stamp}`);
  const exists = await access(join(folder, 'records.jsonl')).then(
    () => true,
    () => false,
  );
  if (exists && !resume) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `${folder} already holds a run. Continue it with --resume, or choose another --save-tag.`,
    );
  }
  if (!exists && resume) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `${folder} holds no run to continue. Check --output-dir and --save-tag, or leave out --resume.`,
    );
  }
  return folder;
}
