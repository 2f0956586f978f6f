import { LineCounter, isMap, isNode, isScalar, parseDocument, type Document } from 'yaml';
import { configError, messageOf } from '../errors.js';

/** A config is a page of text; a file of megabytes is something else. */
const MOST_CHARACTERS = 64 * 1024;

/** A YAML document that knows where its values stand. */
export interface YamlText {
  readonly value: unknown;
  /** `file:line:column` of the deepest value on a path that exists; of a key, if `key` is set. */
  where(path: readonly PropertyKey[], key?: boolean): string;
  /** What the parser warns of. */
  readonly warnings: readonly string[];
}

/**
 * Parses YAML 1.2 with one document.
 *
 * @param file names the text in messages
 * @throws AccelError ERR_ACCEL_CONFIG with line and column: not YAML, keys given twice, tabs, aliases that multiply,
 *   more than 64 KiB
 */
export function parseYaml(text: string, file: string): YamlText {
  if (text.length > MOST_CHARACTERS) {
    throw configError(
      `${file} has ${text.length} characters; a config has at most ${MOST_CHARACTERS}. Check the path.`,
    );
  }
  const lines = new LineCounter();
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  let document: Document.Parsed;
  let value: unknown;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
    const problems = document.errors.map(
      ({ pos, message }) => `${place(pos[0])}: not valid YAML: ${message}`,
    );
    if (problems.length > 0) throw configError(problems.slice(0, 5).join('\n'));
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    // Nested too deep for the parser's recursion, or aliases that stand for more than they may.
    if (error instanceof RangeError || error instanceof ReferenceError) {
      throw configError(`${file}: not a config: ${messageOf(error)}.`, error);
    }
    throw error;
  }
  return {
    value,
    where: (path, key = false) => place(offsetOf(document, path, key)),
    warnings: document.warnings.map(({ pos, message }) => `${place(pos[0])}: ${message}`),
  };
}

function offsetOf(document: Document, path: readonly PropertyKey[], key: boolean): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const steps = path.slice(0, depth);
    const node =
      key && depth === path.length ? keyNode(document, steps) : valueNode(document, steps);
    const start = startOf(node);
    if (start !== undefined) return start;
  }
  return 0;
}

function valueNode(document: Document, path: readonly PropertyKey[]): unknown {
  return path.length === 0 ? document.contents : document.getIn(path, true);
}

function keyNode(document: Document, path: readonly PropertyKey[]): unknown {
  const parent = valueNode(document, path.slice(0, -1));
  if (!isMap(parent)) return undefined;
  const wanted = path.at(-1);
  return parent.items.find(({ key }) => isScalar(key) && String(key.value) === wanted)?.key;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
