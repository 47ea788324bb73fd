import { refusals } from './refusals.ts';
/** `--param name=value`, each. Throws `Refused` for what has no name. */
export function paramsOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(pair => {
      const end = pair.indexOf('=');
      if (end < 1) throw refusals.optionInvalid(`--param ${pair}`, 'Write --param name=value.');
      return [pair.slice(0, end), pair.slice(end + 1)];
    }),
  );
}
