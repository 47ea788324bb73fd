import { z } from 'zod';

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
}

/** The keys that the mapping at `path` may have. */
export function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let nodes = [z.toJSONSchema(schema, { io: 'input' }) as JsonSchema];
  const forms = () => nodes.flatMap(node => node.anyOf ?? node.oneOf ?? [node]);
  for (const part of path) {
    nodes = forms().flatMap(node => (typeof part === 'number' ? node.items : node.properties?.[String(part)]) ?? []);
  }
  return [...new Set(forms().flatMap(node => Object.keys(node.properties ?? {})))];
}

/** The words for a type of value: `a text`. */
export function describeType(type: string): string {
  return (
    (
      {
        string: 'a text',
        number: 'a number',
        int: 'a whole number',
        array: 'a list',
        boolean: 'true or false',
        object: 'a mapping',
      } as Record<string, string>
    )[type] ?? type
  );
}
