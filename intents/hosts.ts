import { parse } from 'yaml';
import { z } from 'zod';

/** A file of hosts: each one's agent, the public key that it must have, and the tags by which fleets are chosen. */
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

/** The hosts of a file, or what is wrong with it. */
export function parseHosts(text: string): { hosts: Map<string, Hosts[string]> } | { problem: string } {
  let value: unknown;
  try {
    value = parse(text, { schema: 'core', maxAliasCount: 0 });
  } catch (error) {
    return { problem: error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error) };
  }
  const read = Hosts.safeParse(value);
  if (read.success) return { hosts: new Map(Object.entries(read.data)) };
  const [issue] = read.error.issues;
  return { problem: `${issue?.path.join('.')}: ${issue?.message}` };
}
