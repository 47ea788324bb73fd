/** One assignment of an env file, as compose reads it. */
export interface Assignment {
  name: string;
  /** With quotes and escapes taken away, but with its `$` as written. */
  value: string;
  /** Counted from 1. */
  line: number;
  /** Whether compose puts variables in: not within single quotes. */
  interpolates: boolean;
}

const HEAD = /^\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:][ \t]*/;

/** Reads an env file. What is no assignment is passed over: compose itself complains of it. */
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
    // A quoted value may go over several lines.
    let quoted = rest.slice(1);
    while (endOf(quoted, quote) < 0 && index + 1 < lines.length) quoted += `\n${lines[++index]}`;
    const end = endOf(quoted, quote);
    const value = end < 0 ? quoted : quoted.slice(0, end);
    found.push({
      name,
      value: quote === '"' ? unescaped(value) : value,
      line: start,
      interpolates: quote === '"',
    });
  }
  return found;
}

/** Where the quote that is not escaped stands; -1 where none does. */
function endOf(text: string, quote: string): number {
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === quote) return at;
  }
  return -1;
}

function unescaped(text: string): string {
  return text.replace(/\\([nrt"\\$])/g, (_, char: string) => ({ n: '\n', r: '\r', t: '\t' })[char] ?? char);
}

/** The variables that compose finds in a value, and that nothing sets: they are parts of it. `set`: names that are. */
export function unsetIn({ value, interpolates }: Assignment, set: ReadonlySet<string>): string[] {
  if (!interpolates) return [];
  const found = value.replaceAll('$$', '').matchAll(/\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/g);
  return [...found].map(([, bare, braced]) => bare ?? braced ?? '').filter(name => !set.has(name));
}

/** Whether compose silently changes the value: `$$` becomes `$`, and a variable that nothing sets becomes nothing. */
export function isChanged(assignment: Assignment, set: ReadonlySet<string>): boolean {
  return assignment.interpolates && (assignment.value.includes('$$') || unsetIn(assignment, set).length > 0);
}
