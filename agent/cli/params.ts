/** `--param name=value`, each. Throws an Error for what has no name. */
export function paramsOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map(pair => {
      const end = pair.indexOf('=');
      if (end < 1) throw new Error(`--param ${pair}: write --param name=value.`);
      return [pair.slice(0, end), pair.slice(end + 1)];
    }),
  );
}
