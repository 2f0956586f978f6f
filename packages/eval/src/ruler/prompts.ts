/**
 * RULER's prompt strings, exact to the byte: the benchmark is defined by them (NVIDIA/RULER, arXiv 2404.06654). The
 * task's text is cut where the question begins.
 */
export interface PromptTemplate {
  readonly context: string;
  readonly question: string;
  /** Follows the task text directly, or the assistant header when there is a chat template. */
  readonly answerPrefix: string;
}

/** The sentence that noise haystacks repeat. */
export const NOISE_SENTENCE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';

/** What a needle says. */
export function needleSentence(valueType: string, key: string, value: string): string {
  return `One of the special magic ${valueType} for ${key} is: ${value}.`;
}

const NIAH: PromptTemplate = {
  context:
    'Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize it. ' +
    'I will quiz you about the {type_needle_v} afterwards.\n{context}',
  question:
    '\nWhat are all the special magic {type_needle_v} for {query} mentioned in the provided text?',
  answerPrefix: ' The special magic {type_needle_v} for {query} mentioned in the provided text are',
};

/** The needle template; with a single answer its wording turns singular. */
export function niahTemplate(singleAnswer: boolean): PromptTemplate {
  if (!singleAnswer) return NIAH;
  return {
    context: singular(NIAH.context),
    question: singular(NIAH.question),
    answerPrefix: singular(NIAH.answerPrefix),
  };
}

/** The replacements the official generator makes, in its order. */
function singular(text: string): string {
  return text
    .replaceAll('Some', 'A')
    .replaceAll('are all', 'is')
    .replaceAll('are', 'is')
    .replaceAll('answers', 'answer');
}

/** The variable-tracking template. The prefix ends in a space. */
export const VARIABLE_TRACKING: PromptTemplate = {
  context:
    'Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}',
  question: '\nQuestion: Find all variables that are assigned the value {query} in the text above.',
  answerPrefix:
    ' Answer: According to the chain(s) of variable assignment in the text above, ' +
    '{num_v} variables are assigned the value {query}, they are: ',
};

/** RULER's `which` is "most". */
export const COMMON_WORDS: PromptTemplate = {
  context:
    'Below is a numbered list of words. In these words, some appear more often than others. ' +
    'Memorize the ones that appear most often.\n{context}',
  question: '\nQuestion: What are the {num_cw} {which} common words in the above list?',
  answerPrefix: ' Answer: The top {num_cw} words that appear most often in the list are:',
};

/** RULER's `which` is "most". */
export const FREQUENT_WORDS: PromptTemplate = {
  context:
    'Read the following coded text and track the frequency of each coded word. ' +
    'Find the three most frequently appeared coded words. {context}',
  question:
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. " +
    'What are the three {which} frequently appeared words in the above coded text?',
  answerPrefix:
    ' Answer: According to the coded text above, the three most frequently appeared words are:',
};

const QA_INSTRUCTION =
  'Answer the question based on the given documents. ' +
  'Only give me the answer and do not output any other words.';

/** Documents first, then the instruction once more and the question. */
export const QA: PromptTemplate = {
  context: `${QA_INSTRUCTION}\n\nThe following are given documents.\n\n{context}`,
  question: `\n\n${QA_INSTRUCTION}\n\nQuestion: {query}`,
  answerPrefix: ' Answer:',
};

/** Fills `{name}` fields; a field without a value is a mistake in this package, so it stays visible. */
export function fill(template: string, fields: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (field, name: string) => fields[name] ?? field);
}
