/** The engine's tests run on the same devices as those of the runtime it stands on. */
export { describeDevices } from '../../../kernels/test/support/devices.js';
