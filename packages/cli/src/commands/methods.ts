import { Command } from 'commander';
import type { Io } from '../io.js';
import { catalogue } from '../methods/catalogue.js';
import { loadMethod } from '../methods/registry.js';
import { colorsFor } from '../ui/colors.js';
import { renderTable } from '../ui/table.js';

/** `accel methods`: what can be given to `--acceleration`. */
export function methodsCommand(io: Io): Command {
  return new Command('methods')
    .summary('list the acceleration methods')
    .description('List the acceleration methods and which are installed.')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const list = await Promise.all(
        catalogue.map(async (entry) => {
          const method = await loadMethod(entry);
          return {
            id: entry.id,
            title: entry.title,
            slots: method?.slots ?? entry.slots,
            paper: entry.paper,
            package: entry.packageName,
            installed: method !== undefined,
            presets: method?.presets ?? {},
          };
        }),
      );
      if (options.json === true) {
        io.stdout.write(`${JSON.stringify(list, null, 2)}\n`);
        return;
      }
      const colors = colorsFor(io.stdout, io.env);
      const rows = list.map((method) => [
        method.title,
        method.slots.join(', '),
        method.paper,
        Object.keys(method.presets).join(', '),
        method.installed ? colors.green('yes') : colors.dim(`npm i ${method.package}`),
      ]);
      const columns = ['method', 'slots', 'paper', 'presets', 'installed'];
      io.stdout.write(
        renderTable(
          columns.map((title) => ({ title })),
          rows,
          colors.bold,
        ),
      );
    });
}
