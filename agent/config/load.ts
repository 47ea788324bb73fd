import { readFileSync, statSync } from 'node:fs';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { suggestNearest } from '../../intents/suggest.ts';
import { yamlValue } from '../../intents/yaml-value.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { Config } from './schema.ts';

export { Config, parseListen } from './schema.ts';

const SIZES: Record<string, number> = { MiB: 2 ** 20, GiB: 2 ** 30 };

/** Bytes of a size such as `2GiB`. */
export function parseSize(text: string): number {
  const [, count = '', unit = ''] = /^(\d+)(\w+)$/.exec(text) ?? [];
  return Number(count) * (SIZES[unit] ?? 1);
}

/** agent.yaml can't be used as it is. One line a problem, with file, line and column. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly code = 'config-invalid';
}

/** Reads agent.yaml. Throws {@link ConfigError}. */
export function readConfig(file: string): Config {
  let text: string;
  try {
    if ((statSync(file).mode & 0o022) !== 0) {
      throw new ConfigError(
        `${file}: others can write this file, and so decide who is trusted. Run: chmod go-w ${file}`,
      );
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${file}: can't be read: ${(error as Error).message}. Give the right file with --config.`);
  }
  return parseConfig(text, file);
}

/** As {@link readConfig}, from text. */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    strict: true,
    schema: 'core',
    prettyErrors: false,
    logLevel: 'silent',
  });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}:${lines.linePos(offset).col}`;
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(error => `${at(error.pos[0])}: ${error.message.split('\n')[0]}`).join('\n'),
    );
  }
  let value: unknown;
  try {
    value = yamlValue(document, 20) ?? {};
  } catch (error) {
    // An alias of nothing, or too many.
    throw new ConfigError(`${file}: ${messageOf(error)}. Write it out.`);
  }
  const result = Config.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(issue => {
    let node: unknown;
    for (let length = issue.path.length; length >= 0 && !isNode(node); length--) {
      node = length === 0 ? document.contents : document.getIn(issue.path.slice(0, length), true);
    }
    const where = at(isNode(node) ? (node.range?.[0] ?? 0) : 0);
    const path = issue.path.join('.');
    if (issue.code !== 'unrecognized_keys') return `${where}: ${path}: ${issue.message}`;
    const known = knownConfigKeys(issue.path);
    return issue.keys
      .map(key => {
        const near = suggestNearest(key, known);
        return `${where}: ${path ? `${path}: ` : ''}the key "${key}" is not known. ${near ? `Did you mean "${near}"?` : `Known keys: ${known.join(', ')}.`}`;
      })
      .join('\n');
  });
  throw new ConfigError(problems.join('\n'));
}

/** The JSON Schema of agent.yaml, for editors. */
export function configJsonSchema(): object {
  return { title: 'chatops agent', ...z.toJSONSchema(Config, { io: 'input' }) };
}

/** The keys that the object at `path` may have, read from the schema. */
function knownConfigKeys(path: readonly PropertyKey[]): string[] {
  let schema: unknown = configJsonSchema();
  for (const part of path) {
    const node = schema as { properties?: Record<string, unknown>; items?: unknown };
    schema = typeof part === 'number' ? node.items : node.properties?.[String(part)];
  }
  return Object.keys((schema as { properties?: object } | undefined)?.properties ?? {});
}
