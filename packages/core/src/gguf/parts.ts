import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AccelError, MappedFile } from '@accel/kernels';
import { damaged, type TensorInfo } from '../weights/header.js';
import { type GgufHeader, parseGguf } from './header.js';
import type { Metadata } from './metadata.js';

/** The contents of a GGUF file, or of all parts of a split one. */
export interface GgufParts extends Disposable {
  /** The file that has the metadata: the only one, or the first part. */
  readonly file: string;
  /** Reads the file until this is disposed. */
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** How llama-gguf-split names the parts. */
const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;

/**
 * Reads the headers of a model. Of a split one any part may be given; the others must lie beside it.
 * @throws AccelError `ERR_ACCEL_FILE`, `ERR_ACCEL_WEIGHTS`
 */
export function openParts(path: string): GgufParts {
  const files = namesOfParts(path);
  const [file = path, ...rest] = files;
  const mapped = MappedFile.open(file);
  try {
    const header = parseGguf(file, mapped);
    checkCount(file, header, 0, files.length);
    const tensors = new Map(header.tensors.map((tensor) => [tensor.name, tensor]));
    for (const [i, part] of rest.entries()) addPart(part, i + 1, files.length, tensors);
    return {
      file,
      metadata: header.metadata,
      tensors,
      [Symbol.dispose]: () => {
        mapped.dispose();
      },
    };
  } catch (error) {
    mapped.dispose();
    throw error;
  }
}

function namesOfParts(path: string): readonly string[] {
  const [, stem = '', , total = '1'] = PART.exec(basename(path)) ?? [];
  const count = Number(total);
  if (stem === '' || count < 2) return [path];
  const files = Array.from({ length: count }, (_, i) => {
    const number = String(i + 1).padStart(5, '0');
    return join(dirname(path), `${stem}-${number}-of-${total}.gguf`);
  });
  const missing = files.filter((file) => !existsSync(file));
  if (missing.length === 0) return files;
  throw new AccelError(
    'ERR_ACCEL_FILE',
    `${missing[0] ?? ''} is not there${missing.length > 1 ? `, nor are ${missing.length - 1} more` : ''}. The model is split into ${count} files: fetch all of them into one folder.`,
  );
}

function addPart(
  file: string,
  index: number,
  count: number,
  tensors: Map<string, TensorInfo>,
): void {
  using mapped = MappedFile.open(file);
  const header = parseGguf(file, mapped);
  checkCount(file, header, index, count);
  for (const tensor of header.tensors) {
    if (tensors.has(tensor.name)) {
      throw damaged(file, `has the tensor ${tensor.name}, which an earlier part has too`);
    }
    tensors.set(tensor.name, tensor);
  }
}

/** The metadata say which part of how many a file is. */
function checkCount(file: string, { metadata }: GgufHeader, index: number, count: number): void {
  const total = metadata.number('split.count') ?? 1;
  const number = metadata.number('split.no') ?? 0;
  if (Math.max(total, 1) === count && number === index) return;
  throw new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${file} is part ${number + 1} of ${total} of a model by its metadata, and ${index + 1} of ${count} by its name. ` +
      'Give the files of a split model their own names back (NAME-00001-of-00003.gguf), or join them with llama-gguf-split --merge.',
  );
}
