import type { Document } from 'yaml';

/** The value of a YAML document. Throws a ReferenceError for an alias without an anchor, a cycle, or too many aliases. */
export function yamlValue(document: Pick<Document, 'toJS'>, maxAliases: number): unknown {
  const value = document.toJS({ maxAliasCount: maxAliases }) as unknown;
  try {
    JSON.stringify(value);
  } catch {
    throw new ReferenceError('The alias is part of its own anchor');
  }
  return value;
}
