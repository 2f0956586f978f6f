import { describe } from 'vitest';
import { Device, devices } from '../../ts/index.js';

/**
 * Which devices tests run on: `cpu`, `cuda` or `all`. From `ACCEL_TEST_DEVICE`, default `all`.
 */
export function testDevices(): readonly string[] {
  const asked = process.env['ACCEL_TEST_DEVICE'] ?? 'all';
  if (asked === 'all') return ['cpu', 'cuda'];
  if (asked === 'cpu' || asked === 'cuda') return [asked];
  throw new Error(`ACCEL_TEST_DEVICE is "${asked}"; it must be cpu, cuda or all.`);
}

/** Why there is no such device here, in the runtime's own words; undefined when there is one. */
export function whyNot(device: string): string | undefined {
  if (devices().some(({ kind }) => kind === device)) return undefined;
  try {
    Device.open(device);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * Runs the same tests on the CPU and on CUDA. Without a GPU the CUDA block is skipped and its title says why, so that
 * a report never looks as if it had run. `body` registers tests; it must not open the device itself (a hook may).
 */
export function describeDevices(name: string, body: (device: string) => void): void {
  for (const device of testDevices()) {
    const reason = whyNot(device);
    if (reason === undefined) describe(`${name} on ${device}`, () => body(device));
    else describe.skip(`${name} on ${device} [skipped: ${reason}]`, () => body(device));
  }
}
