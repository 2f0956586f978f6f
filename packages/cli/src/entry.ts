import { fileURLToPath } from 'node:url';

/** The script of the `accel` command, for processes that it starts. Lies beside `src` and `dist` alike. */
export const entryScript: string = fileURLToPath(new URL('../bin/accel.js', import.meta.url));
