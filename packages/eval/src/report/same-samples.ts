import { argumentError, configError } from '../errors.js';
import type { ComparedSide } from './compare.js';
import { answered } from './figures.js';

/**
 * Settings that may differ between runs that are compared: what answers, not what is asked. The tokenizer of another
 * model cuts prompts at other places, which the check of references does not see; reports name both models.
 */
const OF_THE_ANSWER = new Set(['model', 'modelFiles', 'device', 'dtype']);

/**
 * Refuses a comparison of results that are not of the same samples.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when a method is not in its run; ERR_ACCEL_CONFIG when settings, seeds or
 * references differ
 */
export function assertSameSamples(baseline: ComparedSide, other: ComparedSide): void {
  for (const { run, method } of [baseline, other]) {
    if (run.summary.methods.includes(method)) continue;
    throw argumentError(
      `The run ${run.name} has no method ${method}. It has ${run.summary.methods.join(', ')}.`,
    );
  }
  if (baseline.run === other.run) return;
  const differing = [
    ...differences(baseline.run.run.settings, other.run.run.settings).filter(
      ({ key }) => !OF_THE_ANSWER.has(key),
    ),
    ...differences(baseline.run.run.seeds, other.run.run.seeds).map((found) => ({
      ...found,
      key: `seed of ${found.key}`,
    })),
  ];
  if (differing.length > 0) {
    throw configError(
      `${baseline.run.name} and ${other.run.name} do not have the same samples: ${differing
        .map(({ key, left, right }) => `${key} is ${left} and ${right}`)
        .join('; ')}. Compare runs that differ in methods, model or device only.`,
    );
  }
  assertSameReferences(baseline, other);
}

function differences(left: object, right: object): { key: string; left: string; right: string }[] {
  const values = [flat(left), flat(right)];
  const keys = new Set(values.flatMap((side) => [...side.keys()]));
  return [...keys].flatMap((key) => {
    const [first = '', second = ''] = values.map((side) =>
      side.has(key) ? JSON.stringify(side.get(key)) : 'not given',
    );
    return first === second ? [] : [{ key, left: first, right: second }];
  });
}

/** The config's fields by name beside the other settings, so that messages name what differs. */
function flat(settings: object): Map<string, unknown> {
  const { config, ...rest } = settings as { config?: object };
  return new Map<string, unknown>(Object.entries({ ...rest, ...config }));
}

function assertSameReferences(baseline: ComparedSide, other: ComparedSide): void {
  const known = new Map<string, { id: string; references: string }>();
  for (const record of answered(baseline.run.records)) {
    const { id, task, length, sample, references } = record;
    known.set(JSON.stringify([task, length, sample]), {
      id,
      references: JSON.stringify(references),
    });
  }
  for (const record of answered(other.run.records)) {
    const partner = known.get(JSON.stringify([record.task, record.length, record.sample]));
    if (partner === undefined || partner.references === JSON.stringify(record.references)) continue;
    throw configError(
      `${baseline.run.name} and ${other.run.name} do not have the same samples: the references of ${record.id} are ${JSON.stringify(record.references)} in one and ${partner.references} in the other.`,
    );
  }
}
