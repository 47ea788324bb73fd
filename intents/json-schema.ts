import { z } from 'zod';
import { Intent } from './intent.ts';
import { ParamDeclarations } from './render.ts';

type Schema = Record<string, unknown> & { properties?: Record<string, unknown>; anyOf?: Schema[] };

const TEMPLATE = { type: 'string', pattern: '\\{\\{.*\\}\\}' };

/** The JSON Schema of one document, for editors: the zod schemas, in which each value may also be a template. */
export function intentJsonSchema(): Schema {
  const { anyOf = [], ...schema } = z.toJSONSchema(Intent, { io: 'input' }) as Schema;
  return {
    ...schema,
    title: 'chatops intent',
    anyOf: anyOf.map(form => ({
      ...form,
      properties: {
        ...Object.fromEntries(
          Object.entries(form.properties ?? {}).map(([key, value]) => [
            key,
            key === 'action' ? value : allowTemplate(value),
          ]),
        ),
        params: z.toJSONSchema(ParamDeclarations, { io: 'input', target: 'draft-2020-12' }),
      },
    })),
  };
}

function allowTemplate(value: unknown): unknown {
  const { const: fixed, type } = value as { const?: unknown; type?: unknown };
  return fixed !== undefined || type === 'array' ? value : { anyOf: [value, TEMPLATE], ...descriptionOf(value) };
}

function descriptionOf(value: unknown): object {
  const { description } = value as { description?: string };
  return description === undefined ? {} : { description };
}
