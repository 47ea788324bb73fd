import type { Document } from 'yaml';

/** The value of a YAML document. Throws a ReferenceError where an alias leads nowhere or into itself, or there are too many. */
export function yamlValue(document: Pick<Document, 'toJS'>, maxAliases: number): unknown {
  const value = document.toJS({ maxAliasCount: maxAliases }) as unknown;
  try {
    JSON.stringify(value);
  } catch {
    throw new ReferenceError('An alias stands within what it is an alias of');
  }
  return value;
}
