#!/usr/bin/env node
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkRepository } from './src/check.mjs';

const root = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '../..');
const { problems, packages, methods } = checkRepository(root);
for (const problem of problems) console.error(problem);
console.log(
  `layout: ${packages} packages, of which ${methods} methods; ${problems.length} problem${problems.length === 1 ? '' : 's'}`,
);
process.exitCode = problems.length === 0 ? 0 : 1;
