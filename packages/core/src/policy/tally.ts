/** How the query heads of a group become one number of their kv head. */
export type HeadReduce = 'mean' | 'max' | 'sum' | 'first';

/**
 * A number that a part wants to follow every row of the cache; the engine fills those of attention. New rows begin at 0.
 *
 * - `attention`: what the row has received in all since it was there
 * - `lastAttention`: what it received from the token that was decoded last
 * - `own`: written and read by the part alone
 *
 * Equal requests of the parts of a policy share one number, `own` excepted. ADR 0013.
 */
export type TallyRequest =
  | {
      readonly kind: 'attention';
      readonly reduce: HeadReduce;
      /** Whose attention: of all tokens, of prompts and later turns only, or of decode steps only. */
      readonly of: 'stream' | 'prompts' | 'steps';
    }
  | { readonly kind: 'lastAttention'; readonly reduce: HeadReduce }
  | { readonly kind: 'own' };

/** Whether the engine has to add up the attention of a prompt for it. */
export function countsPrompt(request: TallyRequest): boolean {
  return request.kind === 'attention' && request.of !== 'steps';
}

/** Whether the engine has to write the attention of decode steps for it. */
export function countsDecode(request: TallyRequest): boolean {
  return (
    request.kind === 'lastAttention' || (request.kind === 'attention' && request.of !== 'prompts')
  );
}
