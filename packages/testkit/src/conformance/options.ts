import { describe, expect, it } from 'vitest';
import type { Suite } from './types.js';

/** Refusals, and the method's registration. */
export function optionTests({ method, badOptions }: Suite): void {
  describe('options', () => {
    if (badOptions.length > 0)
      it.each([...badOptions])('refuses $title with $code', ({ make, code }) => {
        expect(make).toThrow(
          expect.objectContaining({ code, message: expect.stringMatching(/\w.*\./s) }),
        );
      });

    it('refuses an unknown key of a config', () => {
      expect(() => method.fromConfig({ windw_size: 32 })).toThrow(
        expect.objectContaining({ message: expect.stringContaining('windw_size') }),
      );
    });

    it('makes parts that are frozen and survive JSON', () => {
      for (const part of method.fromConfig({})) {
        expect(Object.isFrozen(part), part.id).toBe(true);
        expect(JSON.parse(JSON.stringify(part.options))).toEqual(part.options);
        expect(method.fromConfig(part.options)[0]?.options).toEqual(part.options);
      }
    });
  });
}
