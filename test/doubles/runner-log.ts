/**
 * Returns the commands that GitHub's runner obeys in standard output (actions/runner, ActionCommand.cs and
 * ActionCommandManager.cs). Lines end at LF, CR LF and CR. The runner obeys `::name …::` at the start of a line, after
 * white space, and `##[name]` anywhere. After stop-commands it obeys only the token.
 */
export function commandsObeyed(text: string): string[] {
  const obeyed: string[] = [];
  let token: string | undefined;
  for (const line of text.split(/\r\n|\r|\n/)) {
    const [, v2, message = ''] = /^\s*::([A-Za-z0-9_-]+)(?: [^:]*)?::(.*)$/.exec(line) ?? [];
    const v1 = /##\[([^\]]+)\]/.exec(line)?.[1];
    if (token !== undefined) {
      if (v2 === token || v1 === token) token = undefined;
      continue;
    }
    if (v2 === 'stop-commands') token = message;
    else if (v2 !== undefined) obeyed.push(`${v2}:${message}`);
    else if (v1 !== undefined) obeyed.push(v1);
  }
  return obeyed;
}
