import { describe, expect, it } from 'vitest';
import { errorWith } from '../errors.js';
import type { Suite } from './types.js';

/** Refusals, and the method's registration. */
export function optionTests({ method, badOptions }: Suite): void {
  describe('options', () => {
    for (const { title, make, code } of badOptions) {
      it(`refuses ${title} with ${code}`, () => expect(make).toThrow(errorWith(code)));
    }

    it('refuses an unknown key of a config, by its name', () => {
      expect(() => method.fromConfig({ windw_size: 32 })).toThrow(
        errorWith('ERR_ACCEL_POLICY', 'windw_size'),
      );
    });

    it('makes parts that are frozen and survive JSON', () => {
      for (const part of method.fromConfig({})) {
        expect(Object.isFrozen(part), part.id).toBe(true);
        expect(JSON.parse(JSON.stringify(part.options))).toEqual(part.options);
        // A method may bring parts of another along, which that one makes.
        if (part.id !== method.id) continue;
        const again = method.fromConfig(part.options);
        expect(again.find(({ id, slot }) => id === part.id && slot === part.slot)?.options).toEqual(
          part.options,
        );
      }
    });
  });
}
