import type { BenchmarkName } from '../../../benchmark/types.js';
import type { Section } from './section.js';

/** What the numbers of any benchmark do not say by themselves. */
const ALWAYS: readonly string[] = [
  'Methods answer the same samples, so paired differences tell more than two intervals set against each other. Their bootstrap intervals are too narrow below some ten pairs of a task; p is right for any number.',
  'Query-aware: a method sees the question while it compresses, as in most papers. Query-agnostic: it does not, as when a text is cached once for many questions. Second turn: another question was answered first. Scores of different modes are scores of different things.',
  'Reasoning time is prefill and decode, summed over records; loading the model and making prompts are not in it. Times of different machines or batch sizes do not compare methods.',
  'The KV cache is what its pages held after prefill. Weights, activations and the one layer that prefill holds in full come on top.',
  'A dash is a failure, or a record that was not made. A mean over tasks or lengths is a dash where one of them has no answer at all.',
];

const WILSON =
  'Intervals of scores are Wilson’s, for as many right and wrong answers as the mean says: they are too wide rather than too narrow where answers can be half right. Of 120 answers a mean near 95 is uncertain by 4 points either way, one near 50 by 9.';

const OF_BENCHMARK: Readonly<Record<BenchmarkName, readonly string[]>> = {
  RULER: [
    WILSON,
    'RULER’s effective length is the longest whose mean reaches 85.6, what Llama-2-7B scored at 4K. wAvg weighs lengths 1, 2, 3, … with rising or falling length.',
  ],
  LongBench: [
    WILSON,
    'A category of LongBench is the plain mean over its tasks, whose metrics differ.',
  ],
  NIAH: [WILSON],
  NLL: [
    'Intervals of nats are Student’s, over windows of a text. They say how sure the mean over such windows is, not what other texts would give.',
  ],
};

/** How to read the page. */
export function notesSection(benchmarks: readonly BenchmarkName[]): Section {
  const own = new Set(benchmarks.flatMap((name) => OF_BENCHMARK[name]));
  const items = [...own, ...ALWAYS].map((note) => `<li>${note}</li>`);
  return {
    id: 'notes',
    title: 'Reading the numbers',
    body: `<ul>\n${items.join('\n')}\n</ul>`,
  };
}
