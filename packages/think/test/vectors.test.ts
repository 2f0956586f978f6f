import { describeDevices } from '@accel/testkit';
import { parity } from './parity.js';

describeDevices('ThinK’s ops', parity);
