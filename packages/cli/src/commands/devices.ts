import { devices } from '@accel/kernels';
import { Command } from 'commander';
import { formatBytes } from '../format.js';
import type { Io } from '../io.js';
import { colorsFor } from '../ui/colors.js';
import { renderTable } from '../ui/table.js';

/** `accel devices`: what this machine can compute on. */
export function devicesCommand(io: Io): Command {
  return new Command('devices')
    .summary('list the devices')
    .description('List the devices a model can run on.')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const found = devices();
      if (options.json === true) {
        io.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
        return;
      }
      const rows = found.map((device) => [
        device.id,
        device.name,
        device.isa,
        String(device.threads),
        `${formatBytes(device.memory.free)} of ${formatBytes(device.memory.total)} free`,
      ]);
      const columns = [
        { title: 'id' },
        { title: 'name' },
        { title: 'isa' },
        { title: 'threads', align: 'right' },
        { title: 'memory' },
      ] as const;
      io.stdout.write(renderTable(columns, rows, colorsFor(io.stdout, io.env).bold));
    });
}
