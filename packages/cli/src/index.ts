/**
 * The `accel` command as a function, for programs that embed it; the command itself is `bin/accel.js`.
 *
 * @packageDocumentation
 */
export { run } from './main.js';
export type { Input, Io, Output } from './io.js';
