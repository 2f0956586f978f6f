import { describeDevices, expectClose, knownInputs, maskHash } from '@accel/testkit';
import { expect, it } from 'vitest';
import type { Stride } from '../src/index.js';
import { count, estimate, ofHead } from './harness.js';

interface Known {
  readonly title: string;
  readonly tokens: number;
  readonly dim: number;
  readonly stride: Stride;
  readonly threshold: number | readonly number[];
  readonly chunk: number;
  readonly begin?: number;
  readonly active: readonly number[];
  readonly hashes: readonly string[];
  /** A of the last real row: columns 0, 1, 2 and the diagonal; by head. */
  readonly sums: readonly (readonly number[])[];
}

/** Section 6 of the specification: what the authors' code gives, in float32. */
const known: Known[] = [
  {
    title: 'X1',
    tokens: 2048,
    dim: 64,
    stride: 16,
    threshold: 0.9,
    chunk: 2048,
    active: [133, 136, 136, 136],
    hashes: ['840a7f52fb68da9a', ...new Array<string>(3).fill('cd73d6eac8e6b645')],
    sums: [
      [0.48524, 0.44678, 0.45709, 1.56188],
      [0.5277, 0.46239, 0.50234, 0.73841],
    ],
  },
  {
    title: 'X2',
    tokens: 6000,
    dim: 64,
    stride: 8,
    threshold: 0.9,
    chunk: 2048,
    active: [987, 1026, 1040, 1043],
    hashes: ['43ba0fc03c45d660', 'f580ec2557a1786f', 'e74b48ad3c60e2dd', '9c7fe1040e5bf17e'],
    sums: [
      [0.27184, 0.25503, 0.1984, 0.70432],
      [0.30337, 0.26698, 0.27147, 0.33115],
      [0.31104, 0.29144, 0.30095, 0.22386],
      [0.29546, 0.29594, 0.29816, 0.17782],
    ],
  },
  {
    title: 'X3',
    tokens: 6144,
    dim: 64,
    stride: 16,
    threshold: 0.9,
    chunk: 2048,
    active: [1024, 1068, 1082, 1087],
    hashes: ['f3ca38790302e6fb', 'cc967fab60a0239d', '061e3c48d43578df', 'cb56c3cd3999c64a'],
    sums: [
      [0.14149, 0.14137, 0.13004, 0.53652],
      [0.16806, 0.15762, 0.15432, 0.23409],
      [0.16845, 0.16997, 0.15666, 0.1534],
      [0.1666, 0.17007, 0.16303, 0.11944],
    ],
  },
  {
    title: 'X4',
    tokens: 4096,
    dim: 64,
    stride: 16,
    threshold: [0, 0.5, 0.9, 1],
    chunk: 4096,
    active: [63, 280, 510, 528],
    hashes: ['b93da84c60eb6884', 'fc2a0492e8e4de91', 'c8f8ba6bd66517af', '4bb4aa6dafc8e965'],
    sums: [
      [0.23775, 0.1765, 0.1748, 0.76809],
      [0.24632, 0.23225, 0.23098, 0.35004],
      [0.25135, 0.24697, 0.2355, 0.22316],
      [0.2484, 0.25403, 0.24986, 0.18134],
    ],
  },
  {
    title: 'X5',
    tokens: 6144,
    dim: 64,
    stride: 16,
    threshold: 0.9,
    chunk: 2048,
    begin: 4096,
    active: [554, 579, 588, 591],
    hashes: ['34b9d6b16083fcdf', 'bf3ebdda939cc5f0', '855072bffd3f8ff7', 'd6307585314b8ae6'],
    sums: [[0.14149, 0.14137, 0.13004, 0.53652]],
  },
  {
    title: 'X6',
    tokens: 3000,
    dim: 128,
    stride: 8,
    threshold: 0.8,
    chunk: 4096,
    active: [257, 266, 270, 272],
    hashes: ['81285109bb11d9d6', '1c64ced1a29293ad', '01117f6d6609fe21', '6e6ed28f304b9ded'],
    sums: [
      [0.24264, 0.29856, 0.2414, 0.26231],
      [0.30301, 0.2814, 0.30167, 0.13652],
      [0.3016, 0.29759, 0.2894, 0.10301],
      [0.30454, 0.29404, 0.29521, 0.08946],
    ],
  },
  {
    title: 'X7',
    tokens: 500,
    dim: 64,
    stride: 16,
    threshold: 0.9,
    chunk: 2048,
    active: [10, 10, 10, 10],
    hashes: new Array<string>(4).fill('9c964542dd4ae0ed'),
    sums: [[1.66704, 1.44923, 1.15771, 3.72602]],
  },
];

describeDevices('known answers', (device) => {
  it.each(known)('$title: $tokens tokens of $dim, stride $stride', async (answer) => {
    const { tokens, dim, stride, threshold, chunk, begin = 0, active, hashes, sums } = answer;
    const inputs = knownInputs(tokens, dim);
    const first = begin === 0 ? chunk / 128 : 0;
    const got = await estimate(device, inputs, { stride, threshold, first, begin });
    const masks = hashes.map((_, head) => ofHead(got.mask, inputs.heads, head));
    expect(masks.map(count)).toEqual(active);
    expect(masks.map(maskHash)).toEqual(hashes);
    for (const [head, want] of sums.entries()) {
      const last = ofHead(got.sums, inputs.heads, head).subarray(-got.columns);
      const shown = [...last.subarray(0, 3), last.at(-1) as number];
      // Five digits are printed there.
      expectClose(shown, want, { abs: 6e-6, rel: 0 }, `${answer.title} head ${head}`);
    }
  });
});
