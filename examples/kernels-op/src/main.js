// Loads an op library built from kernels/row_entropy.cc, calls its op, and checks the result in JavaScript.
import { fileURLToPath } from 'node:url';
import { AccelError, Device, loadOpLibrary, Tensor } from '@accel/kernels';

const ROWS = 64;
const COLUMNS = 4096;

const library = loadOpLibrary(
  fileURLToPath(new URL('../build/Release/example_row_entropy.so', import.meta.url)),
);
const rowEntropy = library.op('row_entropy');

const device = Device.open('cpu');
const stream = device.createStream();

// Row r is uniform over r + 1 columns, so its entropy is log(r + 1).
const probs = new Float32Array(ROWS * COLUMNS);
for (let row = 0; row < ROWS; row++)
  probs.fill(1 / (row + 1), row * COLUMNS, row * COLUMNS + row + 1);

const input = Tensor.from(device, probs, [ROWS, COLUMNS]);
const output = Tensor.empty(device, 'float32', [ROWS]);
stream.run(rowEntropy, output, input); // returns at once; the work waits in the stream's queue
const entropy = await output.read(stream); // waits for it, off the event loop

const worst = Math.max(...Array.from(entropy, (value, row) => Math.abs(value - Math.log(row + 1))));
console.log(
  `entropy of rows 0, 1, 2, 63: ${[0, 1, 2, 63].map((row) => entropy[row].toFixed(4)).join(', ')}`,
);
console.log(`largest error: ${worst.toExponential(1)}`);
console.log('kernels that ran:', stream.kernels());

// The op's own check refuses wrong shapes before anything is enqueued.
try {
  stream.run(rowEntropy, output, output);
} catch (error) {
  if (!AccelError.isInstance(error)) throw error;
  console.log(`${error.code}: ${error.message}`);
}
input.dispose();
output.dispose();
stream.dispose();
if (!(worst < 1e-4)) process.exitCode = 1;
