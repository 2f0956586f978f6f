import type { JinjaNode } from './jinja-library.js';

/** Operators whose meaning differs between the languages. */
const operators: Readonly<Record<string, string>> = {
  '+': 'add',
  '~': 'join',
  '==': 'equals',
  '!=': 'differs',
};
/** Methods of a text. */
const methods = new Set(['strip', 'lstrip', 'rstrip', 'capitalize']);
/** Filters, by the function that does their work. */
const filters: Readonly<Record<string, string>> = {
  trim: 'trim',
  capitalize: 'capitalize',
  length: 'length',
  count: 'length',
  string: 'text',
  select: 'select',
  reject: 'reject',
  selectattr: 'selectattr',
  rejectattr: 'rejectattr',
};
/** Nodes that print nothing by being evaluated, or text that is printed as it is. */
const statements = new Set([
  'StringLiteral',
  'Set',
  'If',
  'For',
  'Macro',
  'Break',
  'Continue',
  'Comment',
  'CallStatement',
  'FilterStatement',
]);
/** Where nodes keep lists of statements. */
const blocks = ['body', 'alternate', 'defaultBlock'];

/** Name of a function in a template's scope; no template can write it. */
export function pythonName(name: string): string {
  return `python.${name}`;
}

/**
 * Changes a parsed template, in place: operations whose results differ between JavaScript and Python become calls of
 * functions in the template's scope (see {@link pythonName}).
 */
export function usePythonRules(node: unknown): void {
  if (node instanceof Map) for (const entry of node) entry.forEach(usePythonRules);
  else if (Array.isArray(node)) node.forEach(usePythonRules);
  else if (isNode(node)) {
    Object.values(node).forEach(usePythonRules);
    rewriteOperation(node);
    rewriteBlocks(node);
    if (node.type === 'For') rewriteLoop(node);
  }
}

function isNode(value: unknown): value is JinjaNode {
  return typeof value === 'object' && value !== null && 'type' in value;
}

function rewriteOperation(node: JinjaNode): void {
  if (node.type === 'BinaryExpression') {
    const name = operators[(node['operator'] as { value: string }).value];
    if (name !== undefined) becomeCall(node, name, [node['left'], node['right']]);
  } else if (node.type === 'CallExpression') {
    const callee = node['callee'] as JinjaNode;
    const name = callee.type === 'MemberExpression' ? nameOf(callee['property']) : undefined;
    if (name !== undefined && callee['computed'] !== true && methods.has(name)) {
      becomeCall(node, name, [callee['object'], ...(node['args'] as unknown[])]);
    }
  } else if (node.type === 'FilterExpression') {
    const filter = node['filter'] as JinjaNode;
    const called = filter.type === 'CallExpression';
    const name = filters[nameOf(called ? filter['callee'] : filter) ?? ''];
    const more = called ? (filter['args'] as unknown[]) : [];
    if (name !== undefined) becomeCall(node, name, [node['operand'], ...more]);
  }
}

/** What is printed goes through `text` first. */
function rewriteBlocks(node: JinjaNode): void {
  for (const key of blocks) {
    const block = node[key];
    if (!Array.isArray(block)) continue;
    node[key] = block.map((printed: JinjaNode) =>
      statements.has(printed.type) ? printed : call('text', [printed]),
    );
  }
}

/** What a round of a loop assigns is gone in the next one; the library keeps one scope for all rounds. */
function rewriteLoop(node: JinjaNode): void {
  const kept = new Set(assigned(node['loopvar']));
  const names = [...new Set(assignments(node['body']))].filter((name) => !kept.has(name));
  if (names.length > 0) {
    const forget = call(
      'forget',
      names.map((value) => ({ type: 'StringLiteral', value })),
    );
    node['body'] = [forget, ...(node['body'] as JinjaNode[])];
  }
  const iterable = node['iterable'] as JinjaNode;
  if (iterable.type === 'SelectExpression') iterable['lhs'] = call('iterate', [iterable['lhs']]);
  else node['iterable'] = call('iterate', [iterable]);
}

/** Variables that a block sets in its own scope. */
function assignments(block: unknown): string[] {
  return (block as JinjaNode[]).flatMap((node) => {
    if (node.type === 'Set') return assigned(node['assignee']);
    if (node.type !== 'If') return [];
    return [...assignments(node['body']), ...assignments(node['alternate'])];
  });
}

/** Names on the left side of an assignment. */
function assigned(target: unknown): string[] {
  if (!isNode(target)) return [];
  if (target.type === 'TupleLiteral') return (target['value'] as unknown[]).flatMap(assigned);
  const name = nameOf(target);
  return name === undefined ? [] : [name];
}

function call(name: string, args: readonly unknown[]): JinjaNode {
  return {
    type: 'CallExpression',
    callee: { type: 'Identifier', value: pythonName(name) },
    args: [...args],
  };
}

/** The node object stays, because others refer to it. */
function becomeCall(node: JinjaNode, name: string, args: readonly unknown[]): void {
  Object.assign(node, call(name, args));
}

function nameOf(node: unknown): string | undefined {
  return isNode(node) && node.type === 'Identifier' ? (node['value'] as string) : undefined;
}
