import {
  isAlias,
  isMap,
  isNode,
  isScalar,
  LineCounter,
  parseAllDocuments,
  visit,
  type Document as YamlDocument,
} from 'yaml';
import type { z } from 'zod';
import { type CheckedDocument, checkGraph } from './check-graph.ts';
import { ACTIONS, type Intent, schemaFor } from './intent.ts';
import { InvalidIntents, type Problem } from './problem.ts';
import {
  ParamDeclarations as Declarations,
  type ParamDeclarations,
  type ParamValue,
  renderTemplates,
} from './render.ts';
import { describeType, knownKeys } from './schema-keys.ts';
import { suggestNearest } from './suggest.ts';
import { yamlValue } from './yaml-value.ts';

export const MAX_FILE_BYTES = 256 * 1024;
export const MAX_DOCUMENTS = 100;
const MAX_ALIASES = 20;
const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype']);

/** A file of intents, as text. `file` is the name that errors repeat. */
export interface IntentFile {
  file: string;
  text: string;
}

/** One intent with where it stood. `name` is the file's name without folder and ending; `document` and `line` count from 1. */
export interface LoadedIntent {
  file: string;
  name: string;
  document: number;
  documents: number;
  line: number;
  intent: Intent;
}

/**
 * Reads files of intents. Parameters are filled in, so the result is what is signed, planned and recorded; `at` is what `now` means. Throws
 * {@link InvalidIntents} with every problem of every file.
 */
export function loadIntents(
  files: IntentFile[],
  given: Record<string, ParamValue> = {},
  at: Date = new Date(),
): LoadedIntent[] {
  const read = files.map(file => readFile(file, given, true, at));
  const problems = read.flatMap(result => result.problems);
  const declared = new Set(read.flatMap(result => result.declared));
  for (const name of Object.keys(given)) {
    if (declared.has(name)) continue;
    const near = suggestNearest(name, declared);
    problems.push({
      code: 'unknown-param',
      file: files[0]?.file ?? '',
      document: 0,
      line: 1,
      column: 1,
      message: `The parameter "${name}" was given, but no document declares it.`,
      instead: near ? `Did you mean "${near}"?` : 'Leave it out, or declare it under "params:".',
    });
  }
  if (problems.length > 0) throw new InvalidIntents(problems);
  return read.flatMap(result => result.intents);
}

/** Checks files on their own: parameters that nobody gave yet are no problem. */
export function checkIntents(files: IntentFile[]): ({ file: string } & ParsedFile)[] {
  return files.map(file => ({ file: file.file, ...readFile(file, {}, false, new Date()) }));
}

interface ParsedFile {
  intents: LoadedIntent[];
  problems: Problem[];
  /** Names of parameters. */
  declared: string[];
}

function readFile(
  { file, text }: IntentFile,
  given: Record<string, ParamValue>,
  complete: boolean,
  at: Date,
): ParsedFile {
  const whole = (code: Problem['code'], message: string, instead: string): ParsedFile => ({
    intents: [],
    problems: [{ code, file, document: 0, line: 1, column: 1, message, instead }],
    declared: [],
  });
  if (text.length > MAX_FILE_BYTES) {
    return whole('too-large', `The file is larger than ${MAX_FILE_BYTES / 1024} KiB.`, 'Split it into several files.');
  }
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, {
    lineCounter: lines,
    uniqueKeys: true,
    strict: true,
    schema: 'core',
    prettyErrors: false,
    logLevel: 'silent',
  });
  const documents = Array.isArray(parsed) ? parsed : [];
  if (documents.length === 0)
    return whole('empty', 'The file holds no document.', 'Write an intent that begins with "action:".');
  if (documents.length > MAX_DOCUMENTS) {
    return whole(
      'too-many-documents',
      `The file holds more than ${MAX_DOCUMENTS} documents.`,
      'Split it into several files.',
    );
  }
  const read: ParsedFile = { intents: [], problems: [], declared: [] };
  const ids = new Map<string, number>();
  const checked: CheckedDocument[] = [];
  for (const [index, document] of documents.entries()) {
    const reader = new DocumentReader(file, index + 1, document, lines, read.problems);
    const intent = reader.read(given, complete, at);
    read.declared.push(...reader.declared);
    if (!intent) continue;
    if (intent.id !== undefined) {
      const first = ids.get(intent.id);
      if (first !== undefined) {
        reader.report(
          'duplicate-id',
          ['id'],
          `The id "${intent.id}" is that of document ${first} too.`,
          'Give each document its own id.',
        );
      }
      ids.set(intent.id, first ?? index + 1);
    }
    const name =
      (file.split('/').at(-1) ?? file)
        .replace(/\.ya?ml$/, '')
        .replaceAll(/[^\w.-]/g, '_')
        .slice(0, 128) || 'intent';
    const loaded = { file, name, document: index + 1, documents: documents.length, line: reader.line, intent };
    read.intents.push(loaded);
    checked.push({ ...loaded, report: (...about) => reader.report(...about) });
  }
  // Of a file that is not whole it can't be said what needs what.
  if (checked.length === documents.length) checkGraph(checked);
  return read;
}

type Path = readonly PropertyKey[];

/** Reads one document and reports what is wrong with it, with positions. */
class DocumentReader {
  declared: string[] = [];
  readonly #file: string;
  readonly #number: number;
  readonly #document: YamlDocument;
  readonly #lines: LineCounter;
  readonly #problems: Problem[];

  constructor(file: string, number: number, document: YamlDocument, lines: LineCounter, problems: Problem[]) {
    this.#file = file;
    this.#number = number;
    this.#document = document;
    this.#lines = lines;
    this.#problems = problems;
  }

  get line(): number {
    return this.#position(this.#document.contents?.range?.[0] ?? 0).line;
  }

  read(given: Record<string, ParamValue>, complete: boolean, at: Date): Intent | undefined {
    if (!this.#isSound()) return undefined;
    const value = this.#value();
    if (!value) return undefined;
    const { params = {}, ...asked } = value;
    const declarations = this.#declarations(params);
    if (!declarations) return undefined;
    this.declared = Object.keys(declarations);
    const rendered = renderTemplates(asked, declarations, given, complete, at);
    for (const problem of rendered.problems) this.report(problem.code, problem.path, problem.message, problem.instead);
    const schema = this.#schema(rendered.value);
    if (!schema) return undefined;
    const result = schema.safeParse(rendered.value);
    if (result.success) return rendered.problems.length > 0 ? undefined : result.data;
    const issues = result.error.issues.filter(issue => !rendered.open.has(issue.path.join('.')));
    for (const issue of issues) this.#reportIssue(issue, schema);
    // Only fields whose value nobody knows yet are open: what is there is right.
    return issues.length === 0 && rendered.problems.length === 0 ? (rendered.value as Intent) : undefined;
  }

  /** Undefined, and reported, where an alias leads nowhere or into itself. */
  #value(): Record<string, unknown> | undefined {
    try {
      return yamlValue(this.#document, MAX_ALIASES) as Record<string, unknown>;
    } catch (error) {
      if (!(error instanceof ReferenceError)) throw error;
      this.report('yaml-syntax', [], `${error.message}.`, 'Write the value out.');
      return undefined;
    }
  }

  report(code: Problem['code'], path: Path, message: string, instead: string, key = false): void {
    this.#at(code, this.#offset(path, key), message, instead);
  }

  #at(code: Problem['code'], offset: number, message: string, instead: string): void {
    this.#problems.push({
      code,
      file: this.#file,
      document: this.#number,
      ...this.#position(offset),
      message,
      instead,
    });
  }

  #isSound(): boolean {
    const before = this.#problems.length;
    for (const error of this.#document.errors) {
      const duplicate = error.code === 'DUPLICATE_KEY';
      this.#at(
        duplicate ? 'duplicate-key' : 'yaml-syntax',
        error.pos[0],
        duplicate ? 'A key stands here for the second time.' : `This is not YAML: ${error.message.split('\n')[0]}.`,
        duplicate ? 'Keep one of the two.' : 'Check indentation, quotes and colons; use spaces, not tabs.',
      );
    }
    for (const warning of this.#document.warnings) {
      this.#at('yaml-syntax', warning.pos[0], `${warning.message.split('\n')[0]}.`, 'Leave the tag or directive out.');
    }
    let aliases = 0;
    visit(this.#document, (_, node) => {
      if (isAlias(node)) aliases++;
      return undefined;
    });
    if (aliases > MAX_ALIASES) {
      this.#at(
        'too-many-aliases',
        this.#document.contents?.range?.[0] ?? 0,
        `More than ${MAX_ALIASES} aliases (*name).`,
        'Write the values out.',
      );
    }
    visit(this.#document, {
      Pair: (_, pair) => {
        const key = isScalar(pair.key) ? String(pair.key.value) : '';
        if (key === '<<' || FORBIDDEN.has(key)) {
          const offset = isNode(pair.key) ? (pair.key.range?.[0] ?? 0) : 0;
          this.#at('forbidden-key', offset, `The key "${key}" is not allowed.`, 'Leave it out.');
        }
      },
    });
    const contents = this.#document.contents;
    if (contents === null || (isScalar(contents) && contents.value === null)) {
      this.#at(
        'empty',
        contents?.range?.[0] ?? 0,
        'The document is empty.',
        'Write an intent, or take the extra "---" away.',
      );
    } else if (!isMap(contents)) {
      this.#at(
        'not-a-mapping',
        contents.range?.[0] ?? 0,
        'An intent is a mapping of keys to values.',
        'Begin with "action: rollout".',
      );
    }
    return this.#problems.length === before;
  }

  #declarations(params: unknown): ParamDeclarations | undefined {
    const result = Declarations.safeParse(params);
    if (result.success) return result.data;
    for (const issue of result.error.issues) {
      this.report(
        'wrong-value',
        ['params', ...issue.path],
        `${issue.message}.`,
        'Declare a parameter as {type: string | number | boolean | enum, …}.',
      );
    }
    return undefined;
  }

  #schema(value: Record<string, unknown>): z.ZodType<Intent> | undefined {
    const { action } = value;
    if (action === undefined) {
      const near = Object.keys(value).find(key => suggestNearest(key, ['action']));
      const instead = near
        ? `Write "action" instead of "${near}".`
        : `Write "action:" with one of: ${ACTIONS.join(', ')}.`;
      this.report('missing-key', near === undefined ? [] : [near], 'The key "action" is missing.', instead, true);
      return undefined;
    }
    const schema = schemaFor(value);
    if (schema) return schema;
    if (action === 'backup') {
      const path = ['backup_type', 'database_type'].filter(key => key in value).slice(0, 1);
      this.report(
        'wrong-value',
        path,
        'What kind of backup this is, is not known.',
        'Write "backup_type: docker_volumes", "backup_type: vm_proxmox", or "database_type:" with plex, sqlite, postgres, mysql or mariadb.',
      );
      return undefined;
    }
    const near = typeof action === 'string' ? suggestNearest(action, ACTIONS) : undefined;
    this.report(
      'unknown-action',
      ['action'],
      `The action ${JSON.stringify(action)?.slice(0, 60)} is not known.`,
      near ? `Write "${near}".` : `Write one of: ${ACTIONS.join(', ')}.`,
    );
    return undefined;
  }

  #reportIssue(issue: z.core.$ZodIssue, schema: z.ZodType): void {
    if (issue.code === 'unrecognized_keys') {
      const known = knownKeys(schema, issue.path);
      for (const key of issue.keys) {
        const near = suggestNearest(key, known);
        this.report(
          'unknown-key',
          [...issue.path, key],
          `The key "${key}" is not known here.`,
          near ? `Did you mean "${near}"?` : `Known keys: ${known.join(', ')}.`,
          true,
        );
      }
      return;
    }
    if (issue.code === 'invalid_union') {
      // One value or a list of such: what is wrong with the form that was meant says more than that neither fits.
      const meant = issue.errors.find(([first]) => first && (first.path.length > 0 || first.code !== 'invalid_type'));
      if (meant) {
        for (const inner of meant) this.#reportIssue({ ...inner, path: [...issue.path, ...inner.path] }, schema);
        return;
      }
    }
    const where = issue.path.join('.');
    if (issue.code === 'invalid_type' && this.#document.getIn(issue.path) === undefined) {
      this.report(
        'missing-key',
        issue.path.slice(0, -1),
        `The key "${where}" is missing.`,
        `Add "${where}:" with ${describeType(issue.expected)}.`,
        true,
      );
      return;
    }
    const instead =
      issue.code === 'invalid_value'
        ? `Write one of: ${issue.values.map(String).join(', ')}.`
        : issue.code === 'invalid_type'
          ? `Write ${describeType(issue.expected)}.`
          : 'See docs/intents.md for what this key takes.';
    this.report('wrong-value', issue.path, `${where}: ${issue.message}.`, instead);
  }

  /** Where the value at `path` stands (or, with `key`, its key); the nearest ancestor's place where it does not stand. */
  #offset(path: Path, key: boolean): number {
    for (let length = path.length; length >= 0; length--) {
      const parent = length === 0 ? undefined : this.#document.getIn(path.slice(0, length - 1), true);
      if (key && length === path.length && isMap(parent)) {
        const pair = parent.items.find(item => isScalar(item.key) && item.key.value === path[length - 1]);
        if (pair && isNode(pair.key)) return pair.key.range?.[0] ?? 0;
      }
      const node = length === 0 ? this.#document.contents : this.#document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return node.range[0];
    }
    return 0;
  }

  #position(offset: number): { line: number; column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }
}
