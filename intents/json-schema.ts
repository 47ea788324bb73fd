import { z } from 'zod';
import { Intent } from './intent.ts';
import { ParamDeclarations } from './render.ts';

type Schema = Record<string, unknown> & { properties?: Record<string, unknown>; anyOf?: Schema[] };

const TEMPLATE = { type: 'string', pattern: '\\{\\{.*\\}\\}' };

/** The JSON Schema of one document, for editors: as the zod schemas, but every value may also be a template. */
export function intentJsonSchema(): Schema {
  const { anyOf = [], ...schema } = z.toJSONSchema(Intent, { io: 'input' }) as Schema;
  return {
    ...schema,
    title: 'chatops intent',
    anyOf: anyOf.map(verb => ({
      ...verb,
      properties: {
        ...Object.fromEntries(
          Object.entries(verb.properties ?? {}).map(([key, value]) => [
            key,
            key === 'action' ? value : templated(value),
          ]),
        ),
        params: z.toJSONSchema(ParamDeclarations, { io: 'input', target: 'draft-2020-12' }),
      },
    })),
  };
}

function templated(value: unknown): unknown {
  const { const: fixed, type } = value as { const?: unknown; type?: unknown };
  return fixed !== undefined || type === 'array' ? value : { anyOf: [value, TEMPLATE], ...describing(value) };
}

function describing(value: unknown): object {
  const { description } = value as { description?: string };
  return description === undefined ? {} : { description };
}
