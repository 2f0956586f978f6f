/**
 * When the cache is compressed, seen from the question.
 *
 * - `query-aware`: context and question are one prompt; methods that look at its end see the question. What most papers
 *   and the seed toolkit report.
 * - `query-agnostic`: the context alone is compressed, the question comes afterwards, as if the context had been cached.
 * - `second-turn`: another question about the same context was asked and answered first.
 */
export type Mode = 'query-aware' | 'query-agnostic' | 'second-turn';

/** All modes, in the order of reports. */
export const MODES: readonly Mode[] = ['query-aware', 'query-agnostic', 'second-turn'];
