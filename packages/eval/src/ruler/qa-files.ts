import { z } from 'zod';

/** SQuAD's JSON, as far as it is read: articles, paragraphs, questions. */
export interface SquadFile {
  readonly data: readonly {
    readonly paragraphs: readonly {
      readonly context: string;
      readonly qas: readonly {
        readonly question: string;
        readonly is_impossible: boolean;
        readonly answers: readonly { readonly text: string }[];
      }[];
    }[];
  }[];
}

/** A question of HotpotQA's JSON in its first form, with its documents as `[title, [sentence, …]]`. */
export interface HotpotQuestion {
  readonly question: string;
  readonly answer: string;
  readonly context: readonly (readonly [string, readonly string[]])[];
}

export const squadFile: z.ZodType<SquadFile> = z.object({
  data: z
    .array(
      z.object({
        paragraphs: z.array(
          z.object({
            context: z.string(),
            qas: z.array(
              z.object({
                question: z.string(),
                is_impossible: z.boolean(),
                answers: z.array(z.object({ text: z.string() })),
              }),
            ),
          }),
        ),
      }),
    )
    .min(1),
});

export const hotpotFile: z.ZodType<readonly HotpotQuestion[]> = z
  .array(
    z.object({
      question: z.string(),
      answer: z.string(),
      context: z.array(z.tuple([z.string(), z.array(z.string())])),
    }),
  )
  .min(1);
