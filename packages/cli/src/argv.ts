/**
 * Rewrites option names to the kebab-case commander knows: `--model_path x` and `--Model-Path=x` become
 * `--model-path`, the way the original toolkit spells its flags.
 *
 * Values are left alone, and so is everything after a bare `--`.
 *
 * @param argv arguments after the program's name
 */
export function normaliseArgv(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  return argv.map((argument, index) => {
    if (end !== -1 && index >= end) return argument;
    if (!/^--[A-Za-z]/.test(argument)) return argument;
    const equals = argument.indexOf('=');
    const name = equals === -1 ? argument : argument.slice(0, equals);
    const rest = equals === -1 ? '' : argument.slice(equals);
    return name.replaceAll('_', '-').toLowerCase() + rest;
  });
}
