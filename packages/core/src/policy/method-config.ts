import { readFile } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';
import {
  type Document,
  isNode,
  isPair,
  isMap,
  isScalar,
  LineCounter,
  type Node,
  parseAllDocuments,
} from 'yaml';
import type { Method } from './method.js';
import { OptionProblem } from './options.js';
import type { JsonObject, Part } from './part.js';

/**
 * Reads a method's config file, YAML or JSON, and makes its parts.
 * @throws AccelError `ERR_ACCEL_FILE`; `ERR_ACCEL_YAML` for text that is not YAML; what the method refuses an option
 *   with; the last two with `file:line:column`
 */
export async function readMethodConfig(path: string, method: Method): Promise<readonly Part[]> {
  return parseMethodConfig(await readConfig(path, method), method, path);
}

/**
 * The options in a method's config file as they stand there, unchecked: to change some before `method.fromConfig`.
 * @throws AccelError `ERR_ACCEL_FILE`; `ERR_ACCEL_YAML` with `file:line:column`
 */
export async function readMethodOptions(path: string, method: Method): Promise<JsonObject> {
  return parseYaml(await readConfig(path, method), path).options;
}

async function readConfig(path: string, method: Method): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read the ${method.title} config ${path}: ${(error as Error).message}. Check the path.`,
      { cause: error },
    );
  }
}

/** As {@link readMethodConfig}, from text. @param file name for messages */
export function parseMethodConfig(text: string, method: Method, file = 'config'): readonly Part[] {
  const { document, options, locate } = parseYaml(text, file);
  try {
    return method.fromConfig(options);
  } catch (error) {
    if (!AccelError.isInstance(error)) throw error;
    const path = error.cause instanceof OptionProblem ? error.cause.path : [];
    throw new AccelError(error.code, `${locate(nodeAt(document, path))}: ${error.message}`, {
      cause: error,
    });
  }
}

interface Parsed {
  readonly document: Document.Parsed;
  readonly options: JsonObject;
  /** `file:line:column` of a node. */
  readonly locate: (node: Node | null) => string;
}

function parseYaml(text: string, file: string): Parsed {
  const lines = new LineCounter();
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const refuse = (offset: number, problem: string, cause?: unknown): AccelError =>
    new AccelError('ERR_ACCEL_YAML', `${place(offset)}: ${problem}`, { cause });
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const [document, second] = 'empty' in documents ? [] : documents;
  if (document === undefined)
    throw refuse(0, 'the file is empty; write option: value, one a line.');
  const error = document.errors[0];
  if (error !== undefined) throw refuse(error.pos[0], `not valid YAML: ${error.message}`, error);
  if (second !== undefined) {
    throw refuse(second.range[0], 'a second document begins here; a config is one document.');
  }
  let options: unknown;
  try {
    options = document.toJS();
  } catch (failure) {
    // References to anchors are expanded here; a bomb of them is refused.
    throw refuse(0, `cannot be expanded: ${(failure as Error).message}`, failure);
  }
  if (!isMap(document.contents) || typeof options !== 'object' || options === null) {
    throw refuse(document.contents?.range[0] ?? 0, 'must hold option: value, one a line.');
  }
  return {
    document,
    options: options as JsonObject,
    locate: (node) => place(node?.range?.[0] ?? 0),
  };
}

/** The deepest node on the way to an option; for the option itself, its key. */
function nodeAt(document: Document.Parsed, path: readonly (string | number)[]): Node | null {
  let node: unknown = document.contents;
  let found: Node | null = isNode(node) ? node : null;
  for (const step of path) {
    if (!isMap(node)) break;
    const pair: unknown = node.items.find(
      (item) => isScalar(item.key) && String(item.key.value) === String(step),
    );
    if (!isPair(pair)) break;
    if (isNode(pair.key)) found = pair.key;
    node = pair.value;
  }
  return found;
}
