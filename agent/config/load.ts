import { readFileSync, statSync } from 'node:fs';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { knownKeys } from '../../intents/schema-keys.ts';
import { suggestNearest } from '../../intents/suggest.ts';
import { yamlValue } from '../../intents/yaml-value.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { Config } from './schema.ts';

export { Config, parseListen } from './schema.ts';

const SIZES: Record<string, number> = { MiB: 2 ** 20, GiB: 2 ** 30 };

/** Returns the bytes of a size such as `2GiB`. */
export function parseSize(text: string): number {
  const [, count = '', unit = ''] = /^(\d+)(\w+)$/.exec(text) ?? [];
  return Number(count) * (SIZES[unit] ?? 1);
}

/** agent.yaml is invalid: one line for each problem, with file, line and column. */
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
        `${file}: other users can write this file, and so decide who is trusted. Run: chmod go-w ${file}`,
      );
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${file}: not readable: ${(error as Error).message}. Name the right file with --config.`);
  }
  return parseConfig(text, file);
}

/** Parses the text of agent.yaml. Throws {@link ConfigError}. */
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
    // An alias without an anchor, or too many aliases.
    throw new ConfigError(`${file}: ${messageOf(error)}. Write it out.`);
  }
  const result = Config.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(issue => {
    let node: unknown;
    for (let length = issue.path.length; length >= 0 && !isNode(node); length--) {
      node = length === 0 ? document.contents : document.getIn(issue.path.slice(0, length), true);
    }
    const location = at(isNode(node) ? (node.range?.[0] ?? 0) : 0);
    const path = issue.path.join('.');
    if (issue.code !== 'unrecognized_keys') return `${location}: ${path}: ${issue.message}`;
    const known = knownKeys(Config, issue.path);
    return issue.keys
      .map(key => {
        const suggestion = suggestNearest(key, known);
        return `${location}: ${path ? `${path}: ` : ''}the key "${key}" is unknown. ${suggestion ? `Did you mean "${suggestion}"?` : `Known keys: ${known.join(', ')}.`}`;
      })
      .join('\n');
  });
  throw new ConfigError(problems.join('\n'));
}

/** Returns the JSON Schema of agent.yaml, for editors. */
export function configJsonSchema(): object {
  return { title: 'chatops agent', ...z.toJSONSchema(Config, { io: 'input' }) };
}
