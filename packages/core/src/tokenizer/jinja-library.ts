import * as library from '@huggingface/jinja';

// The package's type files import each other without file endings, which Node's module resolution does not follow, so
// most of its classes come without types. What is used of them is described here.

/** A node of a parsed template. */
export interface JinjaNode {
  type: string;
  [key: string]: unknown;
}

/** A value while a template is rendered. */
export interface JinjaValue {
  /** `StringValue`, `IntegerValue`, `FloatValue`, `BooleanValue`, `ArrayValue`, `ObjectValue`, … */
  readonly type: string;
  /** Lists hold values, objects a Map from names to values. */
  readonly value: unknown;
  /** Whether it counts as true. */
  __bool__(): { readonly value: boolean };
}

/** The variables of a template. */
export interface JinjaScope {
  readonly variables: Map<string, JinjaValue>;
  readonly tests: ReadonlyMap<string, (...values: JinjaValue[]) => boolean>;
  /** Converts a JSON-like value, or a function over such values, and declares it under a new name. */
  set(name: string, value: unknown): JinjaValue;
  setVariable(name: string, value: JinjaValue): void;
}

const { Template, Environment, Interpreter } = library as unknown as {
  Template: new (source: string) => { readonly parsed: JinjaNode };
  Environment: new () => JinjaScope;
  Interpreter: new (scope: JinjaScope) => { run(program: JinjaNode): JinjaValue };
};

/**
 * Parses a template, with `trim_blocks` and `lstrip_blocks`.
 * @throws Error when the text is not valid Jinja
 */
export function parseJinja(source: string): JinjaNode {
  return new Template(source).parsed;
}

/** An empty scope, with what every template knows. */
export function createScope(): JinjaScope {
  return new Environment();
}

/**
 * The text that a program prints.
 * @throws whatever the template raises, and Errors of operations that are not possible
 */
export function runJinja(program: JinjaNode, scope: JinjaScope): string {
  return String(new Interpreter(scope).run(program).value);
}
