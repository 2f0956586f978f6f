import type { Part, Slot } from '../policy/part.js';

/** What a part says it did in a layer. Rows per head. */
export interface Done {
  readonly rowsIn: number;
  readonly rowsKept: number;
  readonly note?: string;
}

/** What a part did, over all layers and steps. */
interface PartReport {
  /** Times it removed or changed at least one row. */
  acted: number;
  readonly notes: Set<string>;
}

/** What the parts of a policy did to one sequence. A policy has one part in a slot. */
export class Reports {
  readonly #parts = new Map<Slot, PartReport>();

  /** Records what a part did in a layer. */
  record(part: Part, done: Done): void {
    const report = this.#report(part);
    if (done.rowsKept < done.rowsIn) report.acted += 1;
    if (done.note !== undefined) report.notes.add(done.note);
  }

  /** Records that a part changed the format of rows in a layer. */
  act(part: Part): void {
    this.#report(part).acted += 1;
  }

  /** What {@link acted} and {@link notes} were when the sequence was saved. */
  restore(part: Part, acted: number, notes: readonly string[]): void {
    this.#parts.set(part.slot, { acted, notes: new Set(notes) });
  }

  acted(part: Part): number {
    return this.#parts.get(part.slot)?.acted ?? 0;
  }

  notes(part: Part): readonly string[] {
    return [...(this.#parts.get(part.slot)?.notes ?? [])];
  }

  copy(): Reports {
    const copy = new Reports();
    for (const [slot, { acted, notes }] of this.#parts) {
      copy.#parts.set(slot, { acted, notes: new Set(notes) });
    }
    return copy;
  }

  #report(part: Part): PartReport {
    let report = this.#parts.get(part.slot);
    if (report === undefined) this.#parts.set(part.slot, (report = { acted: 0, notes: new Set() }));
    return report;
  }
}
