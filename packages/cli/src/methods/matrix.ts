import { AccelError, assemble, judge, type Method, type NamedParts } from '@accel/core';
import { builtinOps, devices, loadOpLibrary, type DeviceInfo } from '@accel/kernels';
import { catalogue } from './catalogue.js';
import { familiesOf, type FamilySupport } from './models.js';
import { makeParts } from './policy.js';
import { loadMethod } from './registry.js';

/** A method as its package describes itself; of one that is not installed, what the catalogue knows. */
export interface MethodInfo {
  readonly id: string;
  readonly title: string;
  readonly slots: readonly string[];
  /** Slots whose part yields to another method's. */
  readonly optionalSlots: readonly string[];
  readonly paper: string;
  readonly package: string;
  readonly installed: boolean;
  readonly presets: Readonly<Record<string, string>>;
  /** Kinds of device that all its kernels exist for. */
  readonly devices: readonly DeviceInfo['kind'][];
  /** Why its kernels cannot be loaded. */
  readonly problem?: string;
  readonly models: readonly FamilySupport[];
  /** What comes of joining it with each other installed method by `+`. */
  readonly partners: readonly Partner[];
}

/** Two methods joined by `+`, both with the options of their papers. */
export interface Partner {
  readonly id: string;
  readonly legal: boolean;
  /** Parts of the policy, `id slot`. */
  readonly parts: readonly string[];
  /** Rules that forbid it. */
  readonly problems: readonly string[];
  /** What is legal about it but probably a mistake. */
  readonly warnings: readonly string[];
}

/** Describes every method of the catalogue; what is installed describes itself. */
export async function describeMethods(): Promise<MethodInfo[]> {
  const loaded = await Promise.all(
    catalogue.map(async (entry) => ({ entry, method: await loadMethod(entry) })),
  );
  const installed: NamedParts[] = [];
  for (const { method } of loaded) {
    if (method === undefined) continue;
    installed.push({ method, parts: await makeParts(method, 'paper') });
  }
  return loaded.map(({ entry, method }) => ({
    id: entry.id,
    title: entry.title,
    slots: method?.slots ?? entry.slots,
    optionalSlots: method?.optionalSlots ?? [],
    paper: method?.paper ?? entry.paper,
    package: entry.packageName,
    installed: method !== undefined,
    presets: method?.presets ?? {},
    ...(method === undefined ? { devices: [] } : devicesOf(method)),
    models: method === undefined ? [] : familiesOf(method),
    partners: method === undefined ? [] : partnersOf(method, installed),
  }));
}

function devicesOf(method: Method): Pick<MethodInfo, 'devices' | 'problem'> {
  try {
    // Asking for devices loads the CUDA backend, which brings the functions of the built-in ops.
    if (method.library === undefined) devices();
    const { ops } = method.library === undefined ? builtinOps() : loadOpLibrary(method.library);
    const kinds = ['cpu', 'cuda'] as const;
    return { devices: kinds.filter((kind) => ops.every((op) => op.devices.includes(kind))) };
  } catch (error) {
    if (!AccelError.isInstance(error)) throw error;
    return { devices: [], problem: error.message };
  }
}

function partnersOf(method: Method, installed: readonly NamedParts[]): Partner[] {
  const isOwn = (named: NamedParts): boolean => named.method.id === method.id;
  return installed
    .filter((named) => !isOwn(named))
    .map((other) =>
      // Always in the same order, so that a pair has one reason.
      join(
        installed.filter((named) => named === other || isOwn(named)),
        other.method.id,
      ),
    );
}

/** What `--acceleration A+B` would do. */
function join(named: readonly NamedParts[], id: string): Partner {
  try {
    const parts = assemble(named);
    const { problems, warnings } = judge(parts);
    return {
      id,
      legal: problems.length === 0,
      parts: parts.map((part) => `${part.id} ${part.slot}`),
      problems: [...new Set(problems.map(({ why }) => why))],
      warnings: [...new Set(warnings.map(({ why }) => why))],
    };
  } catch (error) {
    if (!AccelError.isInstance(error)) throw error;
    return { id, legal: false, parts: [], problems: [error.message], warnings: [] };
  }
}
