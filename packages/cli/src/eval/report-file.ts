import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readRun, renderReport } from '@accel/eval';

/** Name of the report in a run's folder. */
const NAME = 'report.html';

/** Writes the report of a run into its folder. @returns the file's name */
export async function writeReport(folder: string): Promise<string> {
  await writeFile(join(folder, NAME), await renderReport([await readRun(folder)]));
  return NAME;
}
