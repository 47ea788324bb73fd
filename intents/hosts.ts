import { parse } from 'yaml';
import { z } from 'zod';

/** The hosts file: the agent of each host, the public key that it must have, and the tags that select fleets. */
const Hosts = z.record(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected the name of a host'),
  z.strictObject({
    agent: z.string().regex(/^wss?:\/\/[^/?#@\s]+\/?$/, 'Expected ws://name:8000 or wss://name:8000'),
    key: z.string(),
    tags: z
      .array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/))
      .max(50)
      .optional(),
  }),
);
export type Hosts = z.infer<typeof Hosts>;

/** Parses a hosts file. Returns its hosts, or its first problem. */
export function parseHosts(text: string): { hosts: Map<string, Hosts[string]> } | { problem: string } {
  let value: unknown;
  try {
    value = parse(text, { schema: 'core', maxAliasCount: 0 });
  } catch (error) {
    return { problem: error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error) };
  }
  const result = Hosts.safeParse(value);
  if (result.success) return { hosts: new Map(Object.entries(result.data)) };
  const [issue] = result.error.issues;
  return { problem: `${issue?.path.join('.')}: ${issue?.message}` };
}
