/** An assignment of an env file, as compose reads it. */
export interface Assignment {
  name: string;
  /** Without quotes and escapes, but with its `$` as written. */
  value: string;
  /** Counted from 1. */
  line: number;
  /** True if compose replaces variables in it: not inside single quotes. */
  interpolates: boolean;
}

const HEAD = /^\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:][ \t]*/;

/** Reads an env file. Lines that are not an assignment are skipped: compose itself reports them. */
export function readEnvFile(text: string): Assignment[] {
  const found: Assignment[] = [];
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index] ?? '';
    const [head = '', name = ''] = HEAD.exec(line) ?? [];
    if (name === '') continue;
    const rest = line.slice(head.length);
    const quote = /^["']/.exec(rest)?.[0];
    const start = index + 1;
    if (quote === undefined) {
      const value = rest.replace(/(^|\s)#.*$/, '').trim();
      found.push({ name, value, line: start, interpolates: true });
      continue;
    }
    // A quoted value may span several lines.
    let quoted = rest.slice(1);
    while (closingQuoteIndex(quoted, quote) < 0 && index + 1 < lines.length) quoted += `\n${lines[++index]}`;
    const end = closingQuoteIndex(quoted, quote);
    const value = end < 0 ? quoted : quoted.slice(0, end);
    found.push({
      name,
      value: quote === '"' ? unescapeDoubleQuoted(value) : value,
      line: start,
      interpolates: quote === '"',
    });
  }
  return found;
}

/** Returns the index of the first quote that is not escaped; -1 if there is none. */
function closingQuoteIndex(text: string, quote: string): number {
  for (let index = 0; index < text.length; index++) {
    if (text[index] === '\\') index++;
    else if (text[index] === quote) return index;
  }
  return -1;
}

function unescapeDoubleQuoted(text: string): string {
  return text.replace(/\\([nrt"\\$])/g, (_, char: string) => ({ n: '\n', r: '\r', t: '\t' })[char] ?? char);
}

/** Returns the variables that compose finds in a value and that nothing sets: they are parts of the value. `set`: names that are set. */
export function listUnsetVariables({ value, interpolates }: Assignment, set: ReadonlySet<string>): string[] {
  if (!interpolates) return [];
  const found = value.replaceAll('$$', '').matchAll(/\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/g);
  return [...found].map(([, bare, braced]) => bare ?? braced ?? '').filter(name => !set.has(name));
}

/** Tells if compose silently changes the value: `$$` becomes `$`, and a variable that nothing sets becomes empty. */
export function isChangedByCompose(assignment: Assignment, set: ReadonlySet<string>): boolean {
  return assignment.interpolates && (assignment.value.includes('$$') || listUnsetVariables(assignment, set).length > 0);
}
