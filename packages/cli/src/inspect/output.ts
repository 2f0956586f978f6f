import { randomUUID } from 'node:crypto';
import { access, constants, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { AccelError } from '@accel/core';

/**
 * Says at once when a file could not be written later, after long work.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function assertFolder(file: string): Promise<void> {
  const folder = dirname(resolve(file));
  try {
    await access(folder, constants.W_OK);
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

/**
 * Writes a file whole or not at all: into a neighbour first, which then takes its place.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function writeWhole(file: string, text: string): Promise<void> {
  const path = resolve(file);
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(temporary, text);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw cannotWrite(file, error);
  }
}

function cannotWrite(file: string, cause: unknown): AccelError {
  return new AccelError(
    'ERR_ACCEL_FILE',
    `Cannot write ${file}: ${(cause as Error).message}. Check --output.`,
    { cause },
  );
}
