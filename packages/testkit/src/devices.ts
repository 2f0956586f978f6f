import { Device, devices } from '@accel/kernels';
import { describe } from 'vitest';

/** The devices that tests run on: `cpu`, `cuda` or `all` (default), from `ACCEL_TEST_DEVICE`. */
export function testDevices(): readonly string[] {
  const asked = process.env.ACCEL_TEST_DEVICE ?? 'all';
  if (asked === 'all') return ['cpu', 'cuda'];
  if (asked === 'cpu' || asked === 'cuda') return [asked];
  throw new Error(`ACCEL_TEST_DEVICE is "${asked}"; it must be cpu, cuda or all.`);
}

/** Why there is no such device on this machine, in the runtime's own words; undefined when there is one. */
function whyNot(device: string): string | undefined {
  if (devices().some(({ kind }) => kind === device)) return undefined;
  try {
    Device.open(device);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * Runs the same tests on the CPU and on CUDA, one block a device. Without a GPU the CUDA block is skipped and its title
 * says why. `body` runs while tests are collected, also for a block that will be skipped: open the device in a hook or
 * in a test.
 */
export function describeDevices(name: string, body: (device: string) => void): void {
  for (const device of testDevices()) {
    const reason = whyNot(device);
    if (reason === undefined) describe(`${name} on ${device}`, () => body(device));
    else describe.skip(`${name} on ${device} [skipped: ${reason}]`, () => body(device));
  }
}
