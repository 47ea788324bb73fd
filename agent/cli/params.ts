import { cliRefusals } from './refusals.ts';
/** `--param name=value`, each. Throws `Refused` for what has no name. */
export function parseParams(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(pair => {
      const end = pair.indexOf('=');
      if (end < 1) throw cliRefusals.optionInvalid(`--param ${pair}`, 'Write --param name=value.');
      return [pair.slice(0, end), pair.slice(end + 1)];
    }),
  );
}
