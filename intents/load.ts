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
  type RenderOptions,
  renderTemplates,
} from './render.ts';
import { describeType, knownKeys } from './schema-keys.ts';
import { suggestNearest } from './suggest.ts';
import { yamlValue } from './yaml-value.ts';

const MAX_FILE_BYTES = 256 * 1024;
const MAX_DOCUMENTS = 100;
const MAX_ALIASES = 20;
const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype']);

/** The text of an intent file. Problems name the file as `file`. */
export interface IntentFile {
  file: string;
  text: string;
}

/** One intent and its position. `name` is the file's name without folder and extension; `document` and `line` count from 1. */
export interface LoadedIntent {
  file: string;
  name: string;
  document: number;
  documents: number;
  line: number;
  intent: Intent;
}

/**
 * Reads intent files and replaces their parameters: the result is signed, planned and recorded. `at` is the time that `now`
 * means. Throws {@link InvalidIntents} with every problem of every file.
 */
export function loadIntents(
  files: IntentFile[],
  params: Record<string, ParamValue> = {},
  at: Date = new Date(),
): LoadedIntent[] {
  const parsed = files.map(file => parseFile(file, params, { complete: true, at }));
  const problems = parsed.flatMap(result => result.problems);
  const declared = new Set(parsed.flatMap(result => result.declared));
  for (const name of Object.keys(params)) {
    if (declared.has(name)) continue;
    const near = suggestNearest(name, declared);
    problems.push({
      code: 'unknown-param',
      file: files[0]?.file ?? '',
      document: 0,
      line: 1,
      column: 1,
      message: `The parameter "${name}" has a value, but no document declares it.`,
      instead: near ? `Did you mean "${near}"?` : 'Remove the parameter, or declare it under "params:".',
    });
  }
  if (problems.length > 0) throw new InvalidIntents(problems);
  return parsed.flatMap(result => result.intents);
}

/** Checks files without parameters: a missing value is not a problem. */
export function checkIntents(files: IntentFile[]): ({ file: string } & ParsedFile)[] {
  return files.map(file => ({ file: file.file, ...parseFile(file, {}, { complete: false, at: new Date() }) }));
}

interface ParsedFile {
  intents: LoadedIntent[];
  problems: Problem[];
  /** Names of the parameters that its documents declare. */
  declared: string[];
}

function parseFile({ file, text }: IntentFile, params: Record<string, ParamValue>, options: RenderOptions): ParsedFile {
  const rejected = (code: Problem['code'], message: string, instead: string): ParsedFile => ({
    intents: [],
    problems: [{ code, file, document: 0, line: 1, column: 1, message, instead }],
    declared: [],
  });
  if (text.length > MAX_FILE_BYTES) {
    return rejected(
      'too-large',
      `The file is larger than ${MAX_FILE_BYTES / 1024} KiB.`,
      'Split it into several files.',
    );
  }
  const lines = new LineCounter();
  const yaml = parseAllDocuments(text, {
    lineCounter: lines,
    uniqueKeys: true,
    strict: true,
    schema: 'core',
    prettyErrors: false,
    logLevel: 'silent',
  });
  const documents = Array.isArray(yaml) ? yaml : [];
  if (documents.length === 0)
    return rejected('empty', 'The file is empty.', 'Write an intent that begins with "action:".');
  if (documents.length > MAX_DOCUMENTS) {
    return rejected(
      'too-many-documents',
      `The file has more than ${MAX_DOCUMENTS} documents.`,
      'Split it into several files.',
    );
  }
  const result: ParsedFile = { intents: [], problems: [], declared: [] };
  const ids = new Map<string, number>();
  const checked: CheckedDocument[] = [];
  for (const [index, document] of documents.entries()) {
    const reader = new DocumentReader(file, index + 1, document, lines, result.problems);
    const intent = reader.read(params, options);
    result.declared.push(...reader.declared);
    if (!intent) continue;
    if (intent.id !== undefined) {
      const first = ids.get(intent.id);
      if (first !== undefined) {
        reader.report(
          'duplicate-id',
          ['id'],
          `The id "${intent.id}" is not unique: document ${first} has it too.`,
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
    result.intents.push(loaded);
    checked.push({ ...loaded, report: (...problem) => reader.report(...problem) });
  }
  // The graph of a file is known only if each of its documents was read.
  if (checked.length === documents.length) checkGraph(checked);
  return result;
}

type Path = readonly PropertyKey[];

/** Reads one document and reports its problems with their positions. */
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

  read(values: Record<string, ParamValue>, options: RenderOptions): Intent | undefined {
    if (!this.#isReadable()) return undefined;
    const value = this.#value();
    if (!value) return undefined;
    const { params = {}, ...fields } = value;
    const declarations = this.#declarations(params);
    if (!declarations) return undefined;
    this.declared = Object.keys(declarations);
    const rendered = renderTemplates(fields, declarations, values, options);
    for (const problem of rendered.problems) this.report(problem.code, problem.path, problem.message, problem.instead);
    const schema = this.#schema(rendered.value);
    if (!schema) return undefined;
    const result = schema.safeParse(rendered.value);
    if (result.success) return rendered.problems.length > 0 ? undefined : result.data;
    const issues = result.error.issues.filter(issue => !rendered.open.has(issue.path.join('.')));
    for (const issue of issues) this.#reportIssue(issue, schema);
    // Open fields, which have no value yet, are not checked. All others are valid.
    return issues.length === 0 && rendered.problems.length === 0 ? (rendered.value as Intent) : undefined;
  }

  /** The value of the document. Reports an alias without an anchor or with a cycle, and returns undefined. */
  #value(): Record<string, unknown> | undefined {
    try {
      return yamlValue(this.#document, MAX_ALIASES) as Record<string, unknown>;
    } catch (error) {
      if (!(error instanceof ReferenceError)) throw error;
      this.report('yaml-syntax', [], `${error.message}.`, 'Write the value in place of the alias.');
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

  #isReadable(): boolean {
    const before = this.#problems.length;
    for (const error of this.#document.errors) {
      const duplicate = error.code === 'DUPLICATE_KEY';
      this.#at(
        duplicate ? 'duplicate-key' : 'yaml-syntax',
        error.pos[0],
        duplicate
          ? 'The key is duplicated: it stands here for the second time.'
          : `The document is not valid YAML: ${error.message.split('\n')[0]}.`,
        duplicate ? 'Keep one of the two.' : 'Check indentation, quotes and colons, and use spaces in place of tabs.',
      );
    }
    for (const warning of this.#document.warnings) {
      this.#at('yaml-syntax', warning.pos[0], `${warning.message.split('\n')[0]}.`, 'Remove the tag or directive.');
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
        `The document has more than ${MAX_ALIASES} aliases (*name).`,
        'Write the values in place of the aliases.',
      );
    }
    visit(this.#document, {
      Pair: (_, pair) => {
        const key = isScalar(pair.key) ? String(pair.key.value) : '';
        if (key === '<<' || FORBIDDEN.has(key)) {
          const offset = isNode(pair.key) ? (pair.key.range?.[0] ?? 0) : 0;
          this.#at('forbidden-key', offset, `The key "${key}" is not allowed.`, 'Remove it.');
        }
      },
    });
    const contents = this.#document.contents;
    if (contents === null || (isScalar(contents) && contents.value === null)) {
      this.#at(
        'empty',
        contents?.range?.[0] ?? 0,
        'The document is empty.',
        'Write an intent, or remove the extra "---".',
      );
    } else if (!isMap(contents)) {
      this.#at(
        'not-a-mapping',
        contents.range?.[0] ?? 0,
        'The document is not a mapping of keys to values.',
        'Begin with a key, for example "action: rollout".',
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
        'The kind of backup is missing or not known.',
        'Write "backup_type: docker_volumes", "backup_type: vm_proxmox", or "database_type:" with one of: plex, sqlite, postgres, mysql, mariadb.',
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
      // A value or a list of values: the issue of the intended form is clearer than that of the union.
      const intended = issue.errors.find(
        ([first]) => first && (first.path.length > 0 || first.code !== 'invalid_type'),
      );
      if (intended) {
        for (const inner of intended) this.#reportIssue({ ...inner, path: [...issue.path, ...inner.path] }, schema);
        return;
      }
    }
    const key = issue.path.join('.');
    if (issue.code === 'invalid_type' && this.#document.getIn(issue.path) === undefined) {
      this.report(
        'missing-key',
        issue.path.slice(0, -1),
        `The key "${key}" is missing.`,
        `Add "${key}:" with ${describeType(issue.expected)}.`,
        true,
      );
      return;
    }
    const instead =
      issue.code === 'invalid_value'
        ? `Write one of: ${issue.values.map(String).join(', ')}.`
        : issue.code === 'invalid_type'
          ? `Write ${describeType(issue.expected)}.`
          : 'See docs/intents.md for the values of this key.';
    this.report('wrong-value', issue.path, `${key}: ${issue.message}.`, instead);
  }

  /** The offset of the value at `path` (with `key`: of its key), or of its nearest ancestor if it is absent. */
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
