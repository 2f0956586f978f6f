import { describe, expect, test } from 'vitest';
import { assemble, type NamedParts } from '../../src/policy/assemble.js';
import { compose } from '../../src/policy/compose.js';
import { freezePart, type Part, type Slot } from '../../src/policy/part.js';
import { expectFailure } from '../shared.js';
import * as parts from './parts.js';

function named(id: string, made: readonly Part[], optionalSlots: readonly Slot[] = []): NamedParts {
  return { method: { id, title: id.toUpperCase(), optionalSlots }, parts: made };
}

// Methods as their packages will make them: an allocator with a selector of its own, one that borrows, a merger too.
const snapkv = named('snapkv', [parts.snapkv]);
const h2o = named('h2o', [parts.h2o]);
const pyramidkv = named('pyramidkv', [parts.snapkv, parts.pyramidkv]);
const ownSelect = freezePart({ ...parts.snapkv, id: 'cakekv' } as const);
const cakekv = named('cakekv', [parts.cakekv, ownSelect], ['select']);
const kept = freezePart({ ...parts.snapkv, options: { observe: 8 } });
const think = named('think', [parts.thinkFree, kept]);
const cam = named('cam', [parts.streamingllm, parts.cam]);

function ids(...methods: NamedParts[]): string[] {
  return assemble(methods).map(({ id, slot }) => `${id} ${slot}`);
}

/** In both orders. */
function both(a: NamedParts, b: NamedParts): string[] {
  const [one, other] = [ids(a, b), ids(b, a)];
  expect([...other].sort()).toEqual([...one].sort());
  return one;
}

describe('methods named together', () => {
  test('alone, a method has all its parts', () => {
    expect(ids()).toEqual([]);
    expect(ids(pyramidkv)).toEqual(['snapkv select', 'pyramidkv budget']);
    expect(ids(cakekv)).toEqual(['cakekv budget', 'cakekv select']);
    expect(ids(cam)).toEqual(['streamingllm select', 'cam merge']);
    expect(assemble([pyramidkv])).toEqual(pyramidkv.parts);
  });

  test('a named method replaces a companion', () => {
    const other = named('snapkv', [freezePart({ ...parts.snapkv, options: { observe: 16 } })]);
    expect(assemble([pyramidkv, other]).find(({ slot }) => slot === 'select')).toBe(other.parts[0]);
    expect(both(snapkv, pyramidkv)).toEqual(['snapkv select', 'pyramidkv budget']);
    expect(both(h2o, pyramidkv)).toEqual(['h2o select', 'pyramidkv budget']);
    expect(both(h2o, cam)).toEqual(['h2o select', 'cam merge']);
  });

  test('a part that is optional yields to a named method, not to a companion', () => {
    expect(both(snapkv, cakekv)).toEqual(['snapkv select', 'cakekv budget']);
    expect(both(cam, cakekv)).toEqual(['cam merge', 'cakekv budget', 'cakekv select']);
    expect(ids(snapkv, cakekv, cam)).toEqual(['snapkv select', 'cakekv budget', 'cam merge']);
  });

  test('a part that a method was only published with yields to one that another method needs', () => {
    expect(ids(think)).toEqual(['think channels', 'snapkv select']);
    expect(both(think, h2o)).toEqual(['think channels', 'h2o select']);
    expect(both(think, pyramidkv)).toEqual(['think channels', 'snapkv select', 'pyramidkv budget']);
    expect(assemble([think, pyramidkv])).toContain(parts.snapkv);
  });

  test('two that insist are left for compose to refuse', async () => {
    expect(both(h2o, snapkv)).toEqual(['h2o select', 'snapkv select']);
    await expectFailure(
      () => compose(...assemble([h2o, snapkv])),
      'ERR_ACCEL_POLICY',
      'two select parts: h2o, snapkv',
    );
    await expectFailure(
      () => compose(...assemble([pyramidkv, cakekv])),
      'ERR_ACCEL_POLICY',
      /two budget parts: pyramidkv, cakekv\. Leave/,
    );
    const second = named('other', [freezePart({ ...ownSelect, id: 'other' })], ['select']);
    expect(both(cakekv, second)).toEqual(['cakekv budget', 'cakekv select', 'other select']);
  });

  test('equal companions are one, different ones an error that says what to name', async () => {
    const second = named('second', [parts.snapkv, freezePart({ ...parts.cam, id: 'second' })]);
    expect(both(pyramidkv, second)).toEqual(['snapkv select', 'pyramidkv budget', 'second merge']);
    await expectFailure(
      () => assemble([pyramidkv, cam]),
      'ERR_ACCEL_POLICY',
      'PYRAMIDKV brings the select part of snapkv along, CAM that of streamingllm. Name the select method you mean as well: snapkv+pyramidkv+cam',
    );
    expect(ids(pyramidkv, cam, h2o)).toEqual(['pyramidkv budget', 'cam merge', 'h2o select']);
  });
});
