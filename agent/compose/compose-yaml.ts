import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseAllDocuments,
  type Scalar,
  visit,
  type YAMLMap,
} from 'yaml';
import { Failure } from '../plan/failure.ts';
import { InterpolationError, interpolate, type Lookup } from './interpolate.ts';

/** A value of a compose file whose tag tells compose how to merge it. */
export class Tagged {
  readonly tag: '!reset' | '!override';
  readonly value: ComposeValue;

  constructor(tag: Tagged['tag'], value: ComposeValue) {
    this.tag = tag;
    this.value = value;
  }
}

/** A number or date as it is written: compose itself finds its value, so that `0440` or `1_000` is what it is there. */
export class Literal {
  readonly source: string;

  constructor(source: string) {
    this.source = source;
  }
}

export type ComposeValue = string | boolean | null | Literal | ComposeValue[] | ComposeMap | Tagged;
export type ComposeMap = Map<string, ComposeValue>;

/** The most values and characters of one file after its aliases and variables are replaced: an alias of aliases grows fast. */
const MAX_NODES = 100_000;
const MAX_LENGTH = 8 * 1024 * 1024;
const MAX_DEPTH = 64;

const PLAIN_TAGS = /^tag:yaml\.org,2002:(str|int|float|bool|null|map|seq)$/;
/** Numbers and dates of compose's YAML library that YAML 1.2 does not have. */
const LITERAL = /^[-+]?(0b[01_]+|0o?[0-7_]+|0x[\da-fA-F_]+|\d[\d_]*(\.[\d_]*)?([eE][-+]?\d+)?)$|^\d{4}-\d\d?-\d\d?$/;
const SAFE_LITERAL = /^[-+]?\.?[\w.+-]+$/;

/** A compose file of plain values: aliases, merge keys and variables are replaced. */
export interface ParsedComposeFile {
  config: ComposeMap;
  /** Returns the line of the deepest part of a path that the file has, counted from 1. */
  lineOf(path: readonly string[]): number | undefined;
}

/**
 * Parses a compose file. What compose would read in another way, or what grows without bound, is refused. Throws
 * {@link Failure} `compose-invalid` with the line.
 */
export function parseComposeFile(
  text: string,
  file: string,
  lookup: Lookup,
  onUnset: (name: string | undefined, line: number) => void,
): ParsedComposeFile {
  const lines = new LineCounter();
  const fail = (offset: number | undefined, reason: string): Failure =>
    new Failure(
      'compose-invalid',
      `${file}${offset === undefined ? '' : `:${lines.linePos(offset).line}`}: ${reason}.`,
      'Correct the compose file. Nothing was started.',
    );
  requireShallow(text, fail);
  // Its own check for keys that are written twice compares each key with each other one.
  const options = {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'silent',
    uniqueKeys: false,
    schema: 'core',
  } as const;
  const documents = parseAllDocuments(text, options);
  const [document, second] = (Array.isArray(documents) ? documents : []) as Document.Parsed[];
  if (second) throw fail(second.range[0], 'The file has more than one YAML document');
  // The parser's own messages quote the file.
  const [error] = document?.errors ?? [];
  if (error) throw fail(error.pos[0], `It is not valid YAML (${error.code.toLowerCase().replaceAll('_', ' ')})`);
  const reportUnset = (name: string | undefined, offset: number) => onUnset(name, lines.linePos(offset).line);
  const anchors = document ? listAliasTargets(document) : new Map<Alias, Node>();
  const config = document ? new Converter(anchors, lookup, reportUnset, fail).convert(document.contents, 0) : null;
  if (config !== null && !(config instanceof Map)) throw fail(undefined, 'The file is not a map of keys');
  return {
    config: config ?? new Map(),
    lineOf(path) {
      const offset = findOffset(document?.contents, path, anchors);
      return offset === undefined ? undefined : lines.linePos(offset).line;
    },
  };
}

type OnUnsetAt = (name: string | undefined, offset: number) => void;

class Converter {
  readonly #anchors: ReadonlyMap<Alias, Node>;
  readonly #lookup: Lookup;
  readonly #onUnset: OnUnsetAt;
  readonly #fail: (offset: number | undefined, reason: string) => Failure;
  /** The nodes around the present one. */
  readonly #within = new Set<unknown>();
  #nodes = 0;
  #length = 0;

  constructor(anchors: ReadonlyMap<Alias, Node>, lookup: Lookup, onUnset: OnUnsetAt, fail: Fail) {
    this.#anchors = anchors;
    this.#lookup = lookup;
    this.#onUnset = onUnset;
    this.#fail = fail;
  }

  convert(node: unknown, depth: number): ComposeValue {
    const offset = (node as Node | null)?.range?.[0];
    if (++this.#nodes > MAX_NODES)
      throw this.#fail(offset, `The file has more than ${MAX_NODES} values once its aliases are replaced`);
    if (depth > MAX_DEPTH) throw this.#fail(offset, `The file is nested deeper than ${MAX_DEPTH} levels`);
    if (node === null || node === undefined) return null;
    if (isAlias(node)) {
      const target = this.#anchors.get(node);
      if (!target) throw this.#fail(offset, 'An alias has no anchor');
      if (this.#within.has(target)) throw this.#fail(offset, 'An alias is part of its own anchor');
      return this.convert(target, depth + 1);
    }
    this.#within.add(node);
    const value = this.#convertPlain(node, depth, offset);
    this.#within.delete(node);
    const { tag } = node as Node & { tag?: string };
    if (tag === '!reset' || tag === '!override') return new Tagged(tag, value);
    if (tag !== undefined && !PLAIN_TAGS.test(tag))
      throw this.#fail(offset, 'The file has a YAML tag that is not allowed');
    return value;
  }

  #convertPlain(node: unknown, depth: number, offset: number | undefined): ComposeValue {
    if (isSeq(node)) return node.items.map(item => this.convert(item, depth + 1));
    if (isMap(node)) return this.#convertMap(node, depth);
    if (!isScalar(node)) throw this.#fail(offset, 'The file has a value of an unknown kind');
    const value = convertScalar(node as Scalar);
    if (value === undefined) throw this.#fail(offset, 'The file has a value of an unknown kind');
    try {
      const text =
        typeof value === 'string' ? interpolate(value, this.#lookup, name => this.#onUnset(name, offset ?? 0)) : value;
      this.#length += typeof text === 'string' ? text.length : 1;
      if (this.#length > MAX_LENGTH)
        throw tooLong(
          this.#fail(offset, `The file is longer than ${MAX_LENGTH} characters once its aliases are replaced`),
        );
      return text;
    } catch (error) {
      if (error instanceof InterpolationError) throw this.#fail(offset, error.message);
      throw error;
    }
  }

  #convertMap(node: YAMLMap, depth: number): ComposeMap {
    const own: ComposeMap = new Map();
    const merged: ComposeMap = new Map();
    for (const { key, value } of node.items) {
      const offset = (key as Node | null)?.range?.[0];
      if (!isScalar(key)) throw this.#fail(offset, 'A key is not a text');
      if (key.value === '<<' && (key as Scalar).type === 'PLAIN') {
        const sources = this.convert(value, depth + 1);
        for (const source of Array.isArray(sources) ? sources : [sources]) {
          if (!(source instanceof Map)) throw this.#fail(offset, 'A merge key "<<" names something that is not a map');
          for (const [name, one] of source) if (!merged.has(name)) merged.set(name, one);
        }
        continue;
      }
      const name = String(key.source ?? key.value ?? '');
      if (own.has(name)) throw this.#fail(offset, 'A key is written twice');
      this.#length += name.length;
      own.set(name, this.convert(value, depth + 1));
    }
    if (merged.size === 0) return own;
    return new Map([...merged].filter(([name]) => !own.has(name)).concat([...own]));
  }
}

type Fail = (offset: number | undefined, reason: string) => Failure;

function tooLong({ message }: Failure): Failure {
  return new Failure('compose-too-large', message, 'Make the compose file smaller. Nothing was started.');
}

/** Refuses a text of brackets in brackets, for which a parser takes minutes. Brackets in texts count too. */
function requireShallow(text: string, fail: Fail): void {
  let depth = 0;
  for (const { 0: bracket, index } of text.matchAll(/[[\]{}]/g)) {
    depth = bracket === '[' || bracket === '{' ? depth + 1 : Math.max(0, depth - 1);
    if (depth > 4 * MAX_DEPTH) throw fail(index, `The file has more than ${4 * MAX_DEPTH} brackets in one another`);
  }
}

/** Returns undefined for a value that YAML 1.2 does not have. */
function convertScalar({ value, source, type }: Scalar): string | boolean | null | Literal | undefined {
  const isPlain = type === 'PLAIN' && source !== undefined;
  if (typeof value === 'number' || typeof value === 'bigint') {
    const text = isPlain ? source : String(value);
    return SAFE_LITERAL.test(text) ? new Literal(text) : undefined;
  }
  if (typeof value === 'string') return isPlain && LITERAL.test(source) ? new Literal(source) : value;
  return value === null || typeof value === 'boolean' ? value : undefined;
}

/** Finds the node of each alias in one pass: an anchor that is set again holds for the aliases behind it. */
function listAliasTargets(document: Document.Parsed): Map<Alias, Node> {
  const anchors = new Map<string, Node>();
  const targets = new Map<Alias, Node>();
  visit(document, {
    Node(_, node) {
      if (isAlias(node)) {
        const target = anchors.get(node.source);
        if (target) targets.set(node, target);
      } else if ((node as ParsedNode & { anchor?: string }).anchor !== undefined) {
        anchors.set((node as ParsedNode & { anchor: string }).anchor, node as Node);
      }
    },
  });
  return targets;
}

function findOffset(root: unknown, path: readonly string[], anchors: ReadonlyMap<Alias, Node>): number | undefined {
  let node = root;
  let offset: number | undefined;
  for (const part of path) {
    if (isAlias(node)) node = anchors.get(node);
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === part);
      if (!isPair(pair)) return offset;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node) && /^\d+$/.test(part)) {
      node = node.items[Number(part)];
      if (!isNode(node)) return offset;
      offset = node.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

/** Returns a value without compose's tag. */
export function untag(value: ComposeValue): ComposeValue {
  return value instanceof Tagged ? value.value : value;
}

/** Returns a list as it is, and a single value as a list of one. */
export function asList(value: ComposeValue | undefined): ComposeValue[] {
  const plain = untag(value ?? null);
  if (plain === null) return [];
  return Array.isArray(plain) ? plain : [plain];
}

/** Returns the entries of a map that are maps. */
export function entries(value: ComposeValue | undefined): [string, ComposeMap][] {
  const plain = untag(value ?? null);
  if (!(plain instanceof Map)) return [];
  return [...plain].flatMap(([key, one]) => {
    const map = untag(one);
    return map instanceof Map ? [[key, map] as [string, ComposeMap]] : [];
  });
}

/** Writes values as YAML that every version of compose reads in the same way: JSON, with compose's two tags. */
export function writeComposeFile(value: ComposeValue): string {
  if (value instanceof Tagged) return `${value.tag} ${writeComposeFile(value.value)}`;
  if (value instanceof Literal) return value.source;
  if (Array.isArray(value)) return `[${value.map(writeComposeFile).join(', ')}]`;
  if (value instanceof Map)
    return `{${[...value].map(([key, one]) => `${quote(key)}: ${writeComposeFile(one)}`).join(', ')}}`;
  // A literal "$" is written twice, so that compose finds no variable. It replaces none in keys.
  return typeof value === 'string' ? quote(value.replaceAll('$', '$$$$')) : String(value);
}

/** A text in quotes. Its control characters and line ends are escaped: YAML reads some of them in another way. */
function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
