import type { JinjaScope as Scope, JinjaValue as Value } from './jinja-library.js';
import { pythonName } from './jinja-rules.js';
import { pythonNumber, pythonRepr, pythonStrip } from './python-text.js';

type Constructor = new (value: unknown) => Value;
type Call = (args: readonly Value[], scope: Scope) => Value;

/** Defines what {@link usePythonRules} makes a template call. Values keep their types, so 1.0 stays a float. */
export function pythonFunctions(scope: Scope): void {
  // The library does not export its classes of values, but makes one of any value.
  const make = (name: string, example: unknown): ((value: unknown) => Value) => {
    const { constructor } = scope.set(pythonName(name), example) as { constructor: unknown };
    return (value) => new (constructor as Constructor)(value);
  };
  const text = make('String', '');
  const boolean = make('Boolean', true);
  const integer = make('Integer', 1);
  const float = make('Float', 0.5);
  const list = make('List', []);
  const missing = make('Undefined', undefined)(undefined);
  const define = (name: string, call: Call): void => {
    scope.setVariable(pythonName(name), callable(call));
  };
  const callable = make('Function', () => null);

  define('text', ([value]) => text(toText(value)));
  define('join', (values) => text(values.map(toText).join('')));
  define('trim', ([value, set]) => text(pythonStrip(toText(value), characters(set), 'both')));
  for (const [name, side] of Object.entries(sides)) {
    define(name, ([value, set]) => {
      if (value?.type === 'StringValue') {
        return text(pythonStrip(value.value as string, characters(set), side));
      }
      throw new Error(`${kindOf(value)} has no ${name}()`);
    });
  }
  define('capitalize', ([value]) => {
    const [first = '', ...rest] = toText(value);
    return text(first.toUpperCase() + rest.join('').toLowerCase());
  });
  define('forget', (names, { variables }) => {
    for (const name of names) variables.delete(toText(name));
    return text('');
  });
  define('equals', ([a, b]) => boolean(equal(a, b)));
  define('differs', ([a, b]) => boolean(!equal(a, b)));
  define('add', ([a, b]) => {
    if (a?.type === 'StringValue' && b?.type === 'StringValue') {
      return text(`${a.value as string}${b.value as string}`);
    }
    if (isNumber(a) && isNumber(b)) {
      const sum = Number(a.value) + Number(b.value);
      return [a, b].some(({ type }) => type === 'FloatValue') ? float(sum) : integer(sum);
    }
    if (a !== undefined && b !== undefined && isList(a) && isList(b)) {
      return list([...a.value, ...b.value]);
    }
    throw new Error(`cannot add ${kindOf(b)} to ${kindOf(a)}`);
  });
  const items = (value: Value | undefined): readonly Value[] => {
    if (value === undefined || value.type === 'UndefinedValue') return [];
    if (value.type === 'StringValue') return Array.from(value.value as string, text);
    if (isList(value)) return value.value;
    throw new Error(`${kindOf(value)} cannot be gone through`);
  };
  define('length', ([value]) => {
    const { size } = value?.value instanceof Map ? value.value : { size: items(value).length };
    return integer(size);
  });
  define('iterate', ([value]) => {
    // The library goes through the keys of an object by itself.
    return value?.type === 'ObjectValue' ? value : list(items(value));
  });
  for (const [name, wanted] of Object.entries({ select: true, reject: false })) {
    define(name, ([values, test, ...args], { tests }) => {
      const passes = testOf(test, tests);
      return list(items(values).filter((value) => passes(value, ...args) === wanted));
    });
    define(`${name}attr`, ([values, attribute, test, ...args], { tests }) => {
      const passes = testOf(test, tests);
      const key = toText(attribute);
      return list(
        items(values).filter((value) => {
          const found = value.value instanceof Map ? (value.value.get(key) as Value) : undefined;
          return passes(found ?? missing, ...args) === wanted;
        }),
      );
    });
  }
}

const sides = { strip: 'both', lstrip: 'start', rstrip: 'end' } as const;

/** A test by its name; without one, whether a value counts as true. */
function testOf(test: Value | undefined, tests: Scope['tests']): (...values: Value[]) => boolean {
  if (test === undefined) return truthy;
  const name = toText(test);
  const passes = name === 'in' ? isIn : tests.get(name);
  if (passes !== undefined) return passes;
  throw new Error(`there is no test called "${name}"`);
}

function isIn(value: Value, all: Value | undefined): boolean {
  if (all !== undefined && isList(all)) return all.value.some((item) => equal(item, value));
  if (all?.type === 'StringValue') return (all.value as string).includes(toText(value));
  if (all?.value instanceof Map) return all.value.has(value.value);
  throw new Error(`nothing can be in ${kindOf(all)}`);
}

/** What Jinja prints of a value. */
function toText(value: Value | undefined): string {
  if (value === undefined || value.type === 'UndefinedValue') return '';
  return value.type === 'StringValue' ? (value.value as string) : toRepr(value);
}

/** Python's `repr`. */
function toRepr(value: Value): string {
  switch (value.type) {
    case 'StringValue':
      return pythonRepr(value.value as string);
    case 'NullValue':
      return 'None';
    case 'BooleanValue':
      return value.value === true ? 'True' : 'False';
    case 'IntegerValue':
      return pythonNumber(value.value as number, false);
    case 'FloatValue':
      return pythonNumber(value.value as number, true);
    case 'UndefinedValue':
      return 'Undefined';
    case 'TupleValue': {
      const items = (value.value as Value[]).map(toRepr);
      return items.length === 1 ? `(${items.join('')},)` : `(${items.join(', ')})`;
    }
    case 'ArrayValue':
      return `[${(value.value as Value[]).map(toRepr).join(', ')}]`;
    case 'ObjectValue': {
      const entries = [...(value.value as Map<string, Value>)];
      return `{${entries.map(([key, item]) => `${pythonRepr(key)}: ${toRepr(item)}`).join(', ')}}`;
    }
    default:
      throw new Error(`cannot print ${kindOf(value)}`);
  }
}

function characters(set: Value | undefined): string | undefined {
  if (set === undefined || set.type === 'NullValue') return undefined;
  if (set.type === 'StringValue') return set.value as string;
  throw new Error(`strip takes a text of characters, not ${kindOf(set)}`);
}

function isNumber(value: Value | undefined): value is Value {
  return ['IntegerValue', 'FloatValue', 'BooleanValue'].includes(value?.type ?? '');
}

function isList(value: Value): value is Value & { readonly value: readonly Value[] } {
  return value.type === 'ArrayValue' || value.type === 'TupleValue';
}

function truthy(value: Value): boolean {
  return value.__bool__().value;
}

function equal(a: Value | undefined, b: Value | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (isNumber(a) && isNumber(b)) return Number(a.value) === Number(b.value);
  if (a.type !== b.type) return false;
  if (isList(a) && isList(b)) {
    return a.value.length === b.value.length && a.value.every((item, i) => equal(item, b.value[i]));
  }
  if (a.value instanceof Map && b.value instanceof Map) {
    const other = b.value as Map<string, Value>;
    const entries = [...(a.value as Map<string, Value>)];
    return a.value.size === other.size && entries.every(([key, v]) => equal(v, other.get(key)));
  }
  return a.value === b.value;
}

/** A value's type in words for a message. */
function kindOf(value: Value | undefined): string {
  const kinds: Readonly<Record<string, string>> = {
    StringValue: 'a text',
    ArrayValue: 'a list',
    TupleValue: 'a list',
    ObjectValue: 'an object',
    NullValue: 'nothing (null)',
    UndefinedValue: 'nothing (undefined)',
    BooleanValue: 'true or false',
    IntegerValue: 'a number',
    FloatValue: 'a number',
  };
  return kinds[value?.type ?? 'UndefinedValue'] ?? 'a function';
}
