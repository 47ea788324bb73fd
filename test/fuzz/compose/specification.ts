import { readFileSync } from 'node:fs';

/** The parts of the Compose Specification's JSON schema that the generator follows. */
export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string | string[];
  enum?: string[];
  properties?: Record<string, Schema>;
  patternProperties?: Record<string, Schema>;
  additionalProperties?: boolean;
  items?: Schema;
  oneOf?: Schema[];
}

export const specification = JSON.parse(readFileSync('test/fixtures/compose-spec.schema.json', 'utf8')) as Schema;

function resolve(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  return specification.$defs?.[schema.$ref.replace('#/$defs/', '')] ?? {};
}

/** Returns the schemas that a value of this schema may have, without references. */
export function alternatives(schema: Schema): Schema[] {
  const found = resolve(schema);
  return found.oneOf ? found.oneOf.flatMap(alternatives) : [found];
}

/** Returns the maps of a schema whose keys are names, without the maps of extensions. */
export function namedValues(schema: Schema): Schema[] {
  return Object.entries(schema.patternProperties ?? {}).flatMap(([pattern, one]) => (pattern === '^x-' ? [] : [one]));
}
