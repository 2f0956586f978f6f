/** The parts of a tokenizer.json that depend on the kind of tokenizer; the names are that file's. */
export interface TokenizerModel {
  readonly normalizer: object | null;
  readonly pre_tokenizer: object | null;
  readonly decoder: object;
  readonly model: object;
  /** The beginning-of-text token goes in front where the metadata does not say. */
  readonly addBos: boolean;
  /** Tokens that go in front besides, if the vocabulary has them all. */
  readonly prefix: readonly string[];
}
