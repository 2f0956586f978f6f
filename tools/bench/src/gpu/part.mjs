// One part of bench:gpu, in a process of its own: `node part.mjs kernels '{"device":"cuda",…}'`. Prints JSON lines.
import { Device } from '@accel/kernels';
import { ceilings } from './ceilings.mjs';
import { codecsBench } from './codecs.mjs';
import { kernels } from './kernels.mjs';
import { memoryBench } from './memory.mjs';
import { methodsBench } from './methods.mjs';
import { modelBench } from './model.mjs';
import { Run } from './run.mjs';
import { sparseBench } from './sparse.mjs';

const [, , part, options] = process.argv;
const run = new Run(JSON.parse(options), (line) => console.log(JSON.stringify(line)));
if (part === 'ceilings') {
  const { name, isa, threads, memory } = Device.open(run.device).info;
  const node = process.version;
  run.emit({
    group: 'machine',
    name,
    isa,
    multiprocessors: threads,
    memoryBytes: memory.total,
    node,
  });
}
const parts = {
  ceilings,
  kernels,
  model: modelBench,
  methods: methodsBench,
  codecs: codecsBench,
  sparse: sparseBench,
  memory: memoryBench,
};
await parts[part](run);
// A line that failed is reported; the process itself did what it was asked.
process.exit(0);
