/** RULER's prompt strings, exact to the byte: the benchmark is defined by them (NVIDIA/RULER, arXiv 2404.06654). */
export interface PromptTemplate {
  readonly task: string;
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
  task:
    'Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize it. ' +
    'I will quiz you about the {type_needle_v} afterwards.\n{context}\n' +
    'What are all the special magic {type_needle_v} for {query} mentioned in the provided text?',
  answerPrefix: ' The special magic {type_needle_v} for {query} mentioned in the provided text are',
};

/** The needle template; with a single answer its wording turns singular. */
export function niahTemplate(singleAnswer: boolean): PromptTemplate {
  if (!singleAnswer) return NIAH;
  return { task: singular(NIAH.task), answerPrefix: singular(NIAH.answerPrefix) };
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
  task:
    'Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n' +
    'Question: Find all variables that are assigned the value {query} in the text above.',
  answerPrefix:
    ' Answer: According to the chain(s) of variable assignment in the text above, ' +
    '{num_v} variables are assigned the value {query}, they are: ',
};

/** Fills `{name}` fields; a field without a value is a mistake in this package, so it stays visible. */
export function fill(template: string, fields: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (field, name: string) => fields[name] ?? field);
}
