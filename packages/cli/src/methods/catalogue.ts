/** A method the toolkit knows of, whether or not its package is installed. */
export interface CatalogueEntry {
  /** Lower-case id, as packages and configs spell it. */
  readonly id: string;
  /** Name as its paper writes it; what tables print. */
  readonly title: string;
  /** npm package that implements it. */
  readonly packageName: string;
  /** Slots of a policy it fills. */
  readonly slots: readonly string[];
  /** Where it was published. */
  readonly paper: string;
}

function entry(id: string, title: string, slots: readonly string[], paper: string): CatalogueEntry {
  return { id, title, packageName: `@accel/${id}`, slots, paper };
}

/** The methods of the toolkit, by what they act on. */
export const catalogue: readonly CatalogueEntry[] = [
  entry('streamingllm', 'StreamingLLM', ['select'], 'arXiv 2309.17453, ICLR 2024'),
  entry('snapkv', 'SnapKV', ['select'], 'arXiv 2404.14469, NeurIPS 2024'),
  entry('h2o', 'H2O', ['select'], 'arXiv 2306.14048, NeurIPS 2023'),
  entry('l2compress', 'L2Compress', ['select'], 'arXiv 2406.11430, EMNLP 2024'),
  entry('pyramidkv', 'PyramidKV', ['budget'], 'arXiv 2406.02069'),
  entry('cakekv', 'CakeKV', ['budget', 'select'], 'arXiv 2503.12491, ICLR 2025'),
  entry('cam', 'CaM', ['merge'], 'ICML 2024, PMLR 235:58840'),
  entry('think', 'ThinK', ['channels'], 'arXiv 2407.21018, ICLR 2025'),
  entry('kivi', 'KIVI', ['codec'], 'arXiv 2402.02750, ICML 2024'),
  entry('flexprefill', 'FlexPrefill', ['prefill'], 'arXiv 2502.20766, ICLR 2025'),
  entry('xattention', 'XAttention', ['prefill'], 'arXiv 2503.16428, ICML 2025'),
];
