/** A piece of text for people: a comment, a string of several words, or a line of a page. `line` counts from 1. */
export interface Prose {
  line: number;
  text: string;
  /** A comment that documents a declaration: it starts with a verb or a noun. */
  isDoc?: true;
  /** A comment inside of code. */
  isNote?: true;
}

/** Replaces code between back-ticks, within one line. */
function withoutCode(text: string): string {
  return text.replace(/`[^`\n]*`/g, '`…`');
}

/** Reads the comments of a TypeScript file and its strings that hold more than one word. */
export function proseOfSource(text: string): Prose[] {
  const found: Prose[] = [];
  let line = 1;
  let at = 0;
  /** The last character that is neither space nor comment: tells a division from a regular expression. */
  let before = '';
  /** Depths of braces at which a template literal continues. */
  const templates: number[] = [];
  let depth = 0;

  const take = (end: number): string => {
    const piece = text.slice(at, end);
    line += piece.split('\n').length - 1;
    at = end;
    return piece;
  };
  const add = (first: number, piece: string) => {
    if (/\S\s+\S/.test(piece)) found.push({ line: first, text: piece });
  };
  const quoted = (quote: string) => {
    let end = at + 1;
    while (end < text.length && text[end] !== quote) end += text[end] === '\\' ? 2 : 1;
    const first = line;
    add(first, take(end + 1).slice(1, -1));
    before = quote;
  };
  /** The text of a template up to its end or its next expression. */
  const template = () => {
    let end = at + 1;
    while (end < text.length && text[end] !== '`' && !(text[end] === '$' && text[end + 1] === '{'))
      end += text[end] === '\\' ? 2 : 1;
    const first = line;
    const opensExpression = text[end] === '$';
    add(first, take(end + (opensExpression ? 2 : 1)).slice(1));
    if (opensExpression) templates.push(depth++);
    before = opensExpression ? '{' : '`';
  };

  while (at < text.length) {
    const char = text[at] ?? '';
    const next = text[at + 1];
    if (char === '/' && next === '/') {
      const first = line;
      const end = text.indexOf('\n', at);
      found.push({
        line: first,
        text: withoutCode(take(end < 0 ? text.length : end).replace(/^\/\/\s*/, '')),
        isNote: true,
      });
    } else if (char === '/' && next === '*') {
      const first = line;
      const end = text.indexOf('*/', at + 2);
      const piece = take(end < 0 ? text.length : end + 2);
      const body = piece.replace(/^\/\*+|\*\/$/g, '').replace(/^[ \t]*\*/gm, '');
      found.push({ line: first, text: withoutCode(body), ...(piece.startsWith('/**') ? { isDoc: true } : {}) });
    } else if (char === "'" || char === '"') quoted(char);
    else if (char === '`') template();
    else if (char === '}' && templates.at(-1) === depth - 1) {
      depth = templates.pop() ?? 0;
      template();
    } else if (char === '/' && /[(,=:[!&|?{};\n+]|^$/.test(before)) {
      let end = at + 1;
      let inClass = false;
      while (end < text.length && (inClass || text[end] !== '/') && text[end] !== '\n') {
        if (text[end] === '[') inClass = true;
        if (text[end] === ']') inClass = false;
        end += text[end] === '\\' ? 2 : 1;
      }
      take(end + 1);
      before = '/';
    } else {
      if (char === '{') depth++;
      if (char === '}') depth--;
      if (!/\s/.test(char)) before = char;
      take(at + 1);
    }
  }
  return found;
}

/** Reads a page line by line, without fenced code and without code between back-ticks. */
export function proseOfPage(text: string): Prose[] {
  let isFenced = false;
  return text.split('\n').flatMap((content, index) => {
    if (/^\s*```/.test(content)) isFenced = !isFenced;
    return isFenced ? [] : [{ line: index + 1, text: withoutCode(content) }];
  });
}

/** Reads the comments and descriptions of a YAML file, a shell script or a Makefile. */
export function proseOfLines(text: string): Prose[] {
  return text.split('\n').flatMap((content, index) => {
    const [, comment] = /(?:^|\s)#+ (.*)$/.exec(content) ?? [];
    const [, value] = /^\s*(?:description|name|label|summary|about|title): *(.*)$/.exec(content) ?? [];
    const [, message] = /^[^#]*echo (.*)$/.exec(content) ?? [];
    return [comment, value, message].flatMap(piece => (piece === undefined ? [] : [{ line: index + 1, text: piece }]));
  });
}
