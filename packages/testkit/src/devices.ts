import { devices } from '@accel/kernels';
import { describe } from 'vitest';

/**
 * Runs the same tests on every device of this machine, one block a device. A device that is not there is not
 * mentioned: what must exist is the business of whoever set the machine up.
 */
export function describeDevices(name: string, body: (device: string) => void): void {
  for (const { id } of devices()) describe(`${name} on ${id}`, () => body(id));
}
