import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { listKeys } from './key-table.ts';

interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  properties?: Record<string, Schema>;
  patternProperties?: Record<string, Schema>;
  items?: Schema;
  oneOf?: Schema[];
}

const specification = JSON.parse(readFileSync('test/fixtures/compose-spec.schema.json', 'utf8')) as Schema;

/** Lists the keys of the specification, in the notation of the table. */
function keysOf(schema: Schema, at = ''): string[] {
  const { $ref, properties = {}, patternProperties = {}, items, oneOf = [] } = schema;
  if ($ref !== undefined) return keysOf(specification.$defs?.[$ref.replace('#/$defs/', '')] ?? {}, at);
  return [
    ...Object.entries(properties).flatMap(([key, one]) => {
      const path = at === '' ? key : `${at}.${key}`;
      return [path, ...keysOf(one, path)];
    }),
    ...Object.entries(patternProperties).flatMap(([pattern, one]) =>
      pattern === '^x-' ? [] : keysOf(one, `${at}.NAME`),
    ),
    ...(items ? keysOf(items, `${at}[]`) : []),
    ...oneOf.flatMap(one => keysOf(one, at)),
  ];
}

describe('the table of keys', () => {
  const rows = listKeys();
  const never = rows.filter(({ needs }) => needs.startsWith('never')).map(({ key }) => key);
  /** A key that nothing allows decides for all below it. */
  const isDecided = (key: string) =>
    rows.some(row => row.key === key) || never.some(one => key.startsWith(`${one}.`) || key.startsWith(`${one}[`));

  it('decides on every key of the Compose Specification', () => {
    const keys = keysOf(specification);
    expect(new Set(keys).size).toBeGreaterThan(280);
    expect(keys.filter(key => !isDecided(key))).toEqual([]);
  });

  it('would miss a key that the specification gets later', () => {
    const later = { ...specification, properties: { ...specification.properties, engines: {} } };
    expect(keysOf(later).filter(key => !isDecided(key))).toEqual(['engines']);
  });

  it('has no key that the specification lacks', () => {
    // The specification names no options of storage drivers.
    const keys = new Set([...keysOf(specification), 'services.NAME.storage_opt.size']);
    expect(rows.map(({ key }) => key).filter(key => !keys.has(key))).toEqual([]);
  });
});
