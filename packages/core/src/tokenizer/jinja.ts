import { pythonFunctions } from './jinja-functions.js';
import { createScope, type JinjaNode, parseJinja, runJinja } from './jinja-library.js';
import { usePythonRules } from './jinja-rules.js';
import { strftime } from './strftime.js';

/**
 * A chat template, rendered as transformers renders it: blocks trimmed, Python's rules for text, `None` and operators,
 * and the functions `raise_exception` and `strftime_now`. The library parses and interprets; where its values behave
 * as JavaScript's and not as Python's, the parsed template is changed to call {@link pythonFunctions} instead.
 */
export class JinjaTemplate {
  readonly #program: JinjaNode;
  /** The template goes through the parts of a message's content by itself. */
  readonly readsParts: boolean;

  /** @throws Error when the text is not valid Jinja */
  constructor(source: string) {
    this.#program = parseJinja(source);
    this.readsParts = loopsOverContent(this.#program);
    usePythonRules(this.#program);
  }

  /**
   * @param variables JSON-like values; undefined ones are left out
   * @param now what `strftime_now` prints
   * @throws Error of `raise_exception`, or when an operation is not possible, as in Python
   */
  render(variables: Readonly<Record<string, unknown>>, now: Date): string {
    const scope = createScope();
    const values: Record<string, unknown> = {
      true: true,
      false: false,
      none: null,
      True: true,
      False: false,
      None: null,
      range,
      strftime_now: (format: string) => strftime(now, format),
      raise_exception: (message: string) => {
        throw new Error(message);
      },
      ...variables,
    };
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined) scope.set(name, value);
    }
    pythonFunctions(scope);
    return runJinja(this.#program, scope);
  }
}

/** What Jinja's sandbox allows: a template comes with the model and is not trusted. */
const LONGEST_RANGE = 100_000;

/** Python's `range`. */
function range(first: number, end?: number, step = 1): number[] {
  const [from, to] = end === undefined ? [0, first] : [first, end];
  if (step === 0) throw new Error('range() arg 3 must not be zero');
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (length > LONGEST_RANGE) throw new Error(`range() of ${length} is too long`);
  return Array.from({ length }, (_, i) => from + i * step);
}

/** Whether a loop goes over something called `content`, which is then a list of parts. */
function loopsOverContent(node: unknown): boolean {
  if (node instanceof Map) return [...node].flat().some(loopsOverContent);
  if (Array.isArray(node)) return node.some(loopsOverContent);
  if (typeof node !== 'object' || node === null) return false;
  const { type, iterable } = node as JinjaNode;
  if (type === 'For' && namesContent(iterable)) return true;
  return Object.values(node).some(loopsOverContent);
}

/** Whether an expression is `content`, `message.content` or `message['content']`, filtered or not. */
function namesContent(expression: unknown): boolean {
  const node = expression as JinjaNode;
  switch (node.type) {
    case 'Identifier':
    case 'StringLiteral':
      return node['value'] === 'content';
    case 'MemberExpression':
      return namesContent(node['property']);
    case 'FilterExpression':
      return namesContent(node['operand']);
    case 'SelectExpression':
      return namesContent(node['lhs']);
    default:
      return false;
  }
}
