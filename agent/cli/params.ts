import { cliRefusals } from './refusals.ts';

/** Parses each `--param name=value`. Throws `Refused` if a name is missing. */
export function parseParams(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(pair => {
      const end = pair.indexOf('=');
      if (end < 1) throw cliRefusals.optionInvalid(`--param ${pair}`, 'Write --param name=value.');
      return [pair.slice(0, end), pair.slice(end + 1)];
    }),
  );
}
