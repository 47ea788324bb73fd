import {
  Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  Pair,
  parseAllDocuments,
  Scalar,
  YAMLMap,
  YAMLSeq,
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

export type ComposeValue = string | number | bigint | boolean | null | ComposeValue[] | ComposeMap | Tagged;
export type ComposeMap = Map<string, ComposeValue>;

/** The most nodes of one file after its aliases are replaced: an alias of an alias of an alias grows fast. */
const MAX_NODES = 100_000;
const MAX_DEPTH = 64;

/** Octal as YAML 1.1 and compose write it: `mode: 0440`. */
const OCTAL = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  test: /^[-+]?0[0-7]+$/,
  resolve: (text: string) => Number.parseInt(text, 8),
} as const;

const PLAIN_TAGS = /^tag:yaml\.org,2002:(str|int|float|bool|null|map|seq)$/;

/**
 * Parses a compose file into plain values: aliases, merge keys and variables are replaced. What compose would read in another
 * way, or what grows without bound, is refused. Throws {@link Failure} `compose-invalid` with the line.
 */
export function parseComposeFile(
  text: string,
  file: string,
  lookup: Lookup,
  onUnset: (name: string) => void,
): ComposeMap {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'silent',
    schema: 'core',
    customTags: tags => [OCTAL, ...tags.filter(tag => tag !== 'merge')],
    intAsBigInt: false,
    uniqueKeys: true,
  });
  const at = (offset: number | undefined) => (offset === undefined ? file : `${file}:${lines.linePos(offset).line}`);
  const fail = (offset: number | undefined, reason: string): Failure =>
    new Failure('compose-invalid', `${at(offset)}: ${reason}.`, 'Correct the compose file. Nothing was started.');
  if (!Array.isArray(documents) || documents.length === 0) return new Map();
  const [document, second] = documents as Document.Parsed[];
  if (second) throw fail(second.range[0], 'The file has more than one YAML document');
  if (!document) return new Map();
  // The parser's own messages quote the file.
  const [error] = document.errors;
  if (error) throw fail(error.pos[0], `It is not valid YAML (${error.code.toLowerCase().replaceAll('_', ' ')})`);
  let nodes = 0;
  const convert = (node: unknown, depth: number, within: ReadonlySet<unknown>): ComposeValue => {
    const offset = (node as Node | null)?.range?.[0];
    if (++nodes > MAX_NODES)
      throw fail(offset, `The file has more than ${MAX_NODES} values once its aliases are replaced`);
    if (depth > MAX_DEPTH) throw fail(offset, `The file is nested deeper than ${MAX_DEPTH} levels`);
    if (node === null || node === undefined) return null;
    if (isAlias(node)) {
      const target = node.resolve(document);
      if (!target) throw fail(offset, 'An alias has no anchor');
      if (within.has(target)) throw fail(offset, 'An alias is part of its own anchor');
      return convert(target, depth + 1, within);
    }
    const { tag } = node as Node & { tag?: string };
    const inner = new Set(within).add(node);
    const value = convertPlain(node, depth, inner, offset);
    if (tag === '!reset' || tag === '!override') return new Tagged(tag, value);
    if (tag !== undefined && !PLAIN_TAGS.test(tag)) throw fail(offset, 'The file has a YAML tag that is not allowed');
    return value;
  };
  const convertPlain = (
    node: unknown,
    depth: number,
    within: ReadonlySet<unknown>,
    offset: number | undefined,
  ): ComposeValue => {
    if (isSeq(node)) return node.items.map(item => convert(item, depth + 1, within));
    if (isMap(node)) return convertMap(node, depth, within);
    if (!isScalar(node)) throw fail(offset, 'The file has a value of an unknown kind');
    const { value } = node as Scalar;
    if (typeof value !== 'string') {
      if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return value;
      if (typeof value !== 'number') throw fail(offset, 'The file has a value of an unknown kind');
      // A number that JavaScript can't hold stays as it is written.
      return Number.isInteger(value) && !Number.isSafeInteger(value) ? String((node as Scalar).source ?? value) : value;
    }
    try {
      return interpolate(value, lookup, onUnset);
    } catch (error) {
      if (error instanceof InterpolationError) throw fail(offset, error.message);
      throw error;
    }
  };
  const convertMap = (node: YAMLMap, depth: number, within: ReadonlySet<unknown>): ComposeMap => {
    const own: ComposeMap = new Map();
    const merged: ComposeMap = new Map();
    for (const { key, value } of node.items) {
      const offset = (key as Node | null)?.range?.[0];
      if (!isScalar(key)) throw fail(offset, 'A key is not a text');
      if (key.value === '<<' && (key as Scalar).type === 'PLAIN') {
        const sources = convert(value, depth + 1, within);
        for (const source of Array.isArray(sources) ? sources : [sources]) {
          if (!(source instanceof Map)) throw fail(offset, 'A merge key "<<" names something that is not a map');
          for (const [name, one] of source) if (!merged.has(name)) merged.set(name, one);
        }
        continue;
      }
      const name = String(key.value ?? '');
      if (own.has(name)) throw fail(offset, 'A key is written twice');
      own.set(name, convert(value, depth + 1, within));
    }
    return new Map([...merged].filter(([name]) => !own.has(name)).concat([...own]));
  };
  const value = convert(document.contents, 0, new Set());
  if (value === null) return new Map();
  if (!(value instanceof Map)) throw fail(undefined, 'The file is not a map of keys');
  return value;
}

/** Writes values as YAML that every version of compose reads in the same way: no anchors, and each text in quotes. */
export function writeComposeFile(value: ComposeMap): string {
  const document = new Document(toNode(value));
  return document.toString({ defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE', lineWidth: 0 });
}

function toNode(value: ComposeValue): Node {
  if (value instanceof Tagged) {
    const node = toNode(value.value) as Node & { tag?: string };
    node.tag = value.tag;
    return node;
  }
  if (Array.isArray(value)) {
    const list = new YAMLSeq();
    for (const one of value) list.add(toNode(one));
    return list;
  }
  if (value instanceof Map) {
    const map = new YAMLMap();
    // A literal "$" is written twice, so that compose finds no variable. It replaces none in keys.
    for (const [key, one] of value) map.items.push(new Pair(new Scalar(key), toNode(one)));
    return map;
  }
  return new Scalar(typeof value === 'string' ? value.replaceAll('$', '$$$$') : value);
}
