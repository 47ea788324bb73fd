import { readFileSync, statSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { Duration } from '../intents/duration.ts';
import { nearest } from '../intents/nearest.ts';
import { DEFAULT_PORT } from '../protocol/wire.ts';
import { COMPOSE_GRANTS } from './plan.ts';
import { Name, Pattern, TrustEntry } from './trust.ts';

const Absolute = z.string().regex(/^\/(?!.*\/\.\.?(\/|$))/, 'Expected an absolute path without "." or ".." in it');
const Address = z.string().refine(isAddressRange, { error: 'Expected an address or a range such as "100.64.0.0/10"' });

/** A path that is given to ssh as part of a line: no spaces, no quotes. */
const Word = z.string().regex(/^\/[\w./@+-]+$/, 'Expected an absolute path of letters, digits and "._@+-"');
const BackupRemote = z.strictObject({
  target: z
    .string()
    .regex(
      /^(rsync:\/\/([\w.-]+@)?[\w.-]+(:\d{1,5})?\/[\w.-]+(\/[\w.-]+)*|[\w.-]+@[\w.-]+:\/[\w./-]*[\w-])$/,
      'Expected "rsync://host/module/folder" or "user@host:/folder", without a slash at its end',
    )
    .describe('The place below which backups may be written: rsync://nas/backup or backup@nas:/srv/backup.'),
  ssh: z
    .strictObject({
      key_file: Word.optional().describe('The private key.'),
      known_hosts: Word.optional().describe('Where the other host’s key is known.'),
      port: z.int().min(1).max(65_535).optional(),
    })
    .optional(),
  password_file: Word.optional().describe('Of an rsync daemon’s user; mode 0600.'),
  marker: z
    .string()
    .regex(/^[\w.][\w.-]{0,63}$/, 'Expected a file’s name')
    .optional()
    .describe('A file that must be in the target: proof that the right disk is mounted there.'),
});

/** agent.yaml: whom this host trusts, and what it lets them touch. */
export const Config = z
  .strictObject({
    agent: Name.describe('This agent’s name: the audience of commands and the prefix of the log.'),
    listen: z
      .string()
      .refine(text => parseListen(text) !== undefined, { error: 'Expected one address and port: "100.64.0.7:8000"' })
      .default(`127.0.0.1:${DEFAULT_PORT}`)
      .describe('The one address and port to listen on.'),
    state_dir: Absolute.default('/var/lib/chatops').describe(
      'Where the agent keeps its key, its database, its audit and the runs.',
    ),
    allow_from: z
      .array(Address)
      .min(1)
      .default(['100.64.0.0/10', 'fd7a:115c:a1e0::/48', '127.0.0.0/8', '::1/128'])
      .describe('Addresses that may connect. Default: Tailscale’s ranges and loopback.'),
    rate_limit: z
      .strictObject({ commands: z.int().min(1).max(100_000).default(10), per: Duration.default('1m') })
      .default({ commands: 10, per: '1m' })
      .describe('How many connections an address may make in a time.'),
    stacks: z
      .strictObject({ root: Absolute.default('/opt/stacks') })
      .default({ root: '/opt/stacks' })
      .describe('A stack is a folder in root.'),
    docker: z
      .strictObject({
        socket: Absolute.default('/var/run/docker.sock'),
        command: z
          .string()
          .regex(/^(\/|[a-z])[\w./-]*$/, 'Expected a program’s name or absolute path')
          .default('docker'),
        config_dir: Absolute.optional().describe('DOCKER_CONFIG: where registry logins are.'),
      })
      .default({ socket: '/var/run/docker.sock', command: 'docker' }),
    compose: z
      .strictObject({
        binds: z.array(Absolute).default([]).describe('Folders that any stack may bind beside its own.'),
        ports: z
          .string()
          .regex(/^\d{1,5}-\d{1,5}$/, 'Expected a range such as "1024-65535"')
          .default('1-65535')
          .describe('Ports of this host that stacks may publish.'),
        grants: z
          .array(
            z.strictObject({
              stack: Pattern,
              allow: z.array(z.enum(COMPOSE_GRANTS)).min(1).describe('What its compose file may do beyond the rules.'),
            }),
          )
          .default([]),
      })
      .default({ binds: [], ports: '1-65535', grants: [] })
      .describe('What compose files may do. They are judged, rendered, before anything of them is started.'),
    limits: z
      .strictObject({
        concurrent_runs: z.int().min(1).max(100).default(4).describe('Runs side by side (of different stacks).'),
        connections: z.int().min(1).max(10_000).default(100).describe('Open connections in all.'),
      })
      .default({ concurrent_runs: 4, connections: 100 }),
    verify: z
      .strictObject({
        allow: z
          .array(z.union([z.literal('stack'), Address]))
          .default(['stack', '127.0.0.0/8', '::1/128'])
          .describe('What "verify" may ask: addresses and ranges, and "stack" for the containers of the stack itself.'),
      })
      .default({ allow: ['stack', '127.0.0.0/8', '::1/128'] })
      .describe('Bounds of "verify" in intents, so that an intent can’t probe the network.'),
    backups: z
      .strictObject({
        sources: z
          .array(Absolute)
          .default(['/var/lib/docker/volumes'])
          .describe('Folders below which backups may read. The stacks’ root is always one.'),
        destinations: z
          .array(
            z.strictObject({
              path: Absolute.describe('The folder below which backups may be written.'),
              mount: z
                .strictObject({
                  source: z
                    .string()
                    .min(1)
                    .optional()
                    .describe('What is mounted, as in /proc/self/mounts: "nas:/export/backup".'),
                  fstype: z.string().min(1).optional().describe('Its type: nfs4, ext4 …'),
                })
                .optional()
                .describe('The path must be a mount point, of this source and type where they are named.'),
              marker: z
                .string()
                .regex(/^[\w.-]{1,64}$/)
                .optional()
                .describe(
                  'The text that the file .chatops-backup-target in the path must hold: proof that it is that share.',
                ),
              min_free: z
                .string()
                .regex(/^\d{1,6}(MiB|GiB)$/, 'Expected a size such as "500MiB" or "2GiB"')
                .default('2GiB')
                .describe('What must be free beside the backup.'),
            }),
          )
          .default([])
          .describe('Where backups may be written. Without one there are none.'),
        remotes: z.array(BackupRemote).default([]).describe('Other hosts that take backups by rsync.'),
        databases: z
          .array(
            z.strictObject({
              server: z
                .string()
                .regex(
                  /^(\/[^\0\s]+|[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$/,
                  'Expected a container’s name or a socket’s folder',
                )
                .describe('The container, or the folder of the server’s socket.'),
              user: z
                .string()
                .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/)
                .optional(),
              password_file: Absolute.optional().describe('Its first line is the password.'),
            }),
          )
          .default([])
          .describe('Database servers that want another user or password than their container’s variables tell.'),
        restic: z
          .strictObject({
            password_file: Absolute.describe('The password of restic’s repositories. Keep a copy elsewhere.'),
          })
          .optional()
          .describe('For method: restic.'),
      })
      .default({ sources: ['/var/lib/docker/volumes'], destinations: [], remotes: [], databases: [] })
      .describe('Bounds of backups.'),
    proxmox: z
      .strictObject({
        programs: Absolute.optional().describe(
          'The folder of vzdump, pvesh, pvesm, qm and pct, where the usual ones don’t hold them.',
        ),
      })
      .default({})
      .describe('For an agent on a Proxmox node.'),
    history: z
      .strictObject({
        keep: Duration.default('365d').describe('Runs that ended longer ago are taken out.'),
        max_runs: z.int().min(1).default(1_000_000).describe('The oldest of more runs are taken out.'),
        max_size: z
          .string()
          .regex(/^\d{1,6}(MiB|GiB)$/, 'Expected a size such as "500MiB" or "2GiB"')
          .default('2GiB')
          .describe('How much the logs and files of runs may take; the oldest of more are taken out.'),
      })
      .default({ keep: '365d', max_runs: 1_000_000, max_size: '2GiB' })
      .describe('How much is kept of runs that have ended.'),
    oidc: z
      .strictObject({
        issuer: z
          .url({ protocol: /^https?$/ })
          .refine(isSafeIssuer, { error: 'Expected https (or http on loopback)' })
          .default('https://token.actions.githubusercontent.com'),
        jwks_url: z
          .url({ protocol: /^https?$/ })
          .refine(isSafeIssuer)
          .optional(),
        jwks_file: Absolute.optional().describe('The issuer’s keys in a file, for a host without internet.'),
      })
      .default({ issuer: 'https://token.actions.githubusercontent.com' })
      .describe('Who issues the tokens that "github" in trust entries speaks of.'),
    trust: z.array(TrustEntry).min(1).describe('Who may send commands, and what they may do.'),
  })
  .superRefine((config, context) => {
    const names = config.trust.map(entry => entry.name);
    for (const [index, entry] of config.trust.entries()) {
      if (entry.key !== undefined || entry.github) continue;
      context.addIssue({ code: 'custom', path: ['trust', index], message: 'Expected "key", "github" or both' });
    }
    for (const [index, name] of names.entries()) {
      if (name === 'local') {
        context.addIssue({
          code: 'custom',
          path: ['trust', index, 'name'],
          message: 'Expected another name: "local" stands for commands that are given on the host itself',
        });
      }
      if (names.indexOf(name) !== index) {
        context.addIssue({
          code: 'custom',
          path: ['trust', index, 'name'],
          message: `Expected a name of its own; "${name}" is used twice`,
        });
      }
    }
  });
export type Config = z.infer<typeof Config>;

const SIZES: Record<string, number> = { MiB: 2 ** 20, GiB: 2 ** 30 };

/** Bytes of a size such as `2GiB`. */
export function parseSize(text: string): number {
  const [, count = '', unit = ''] = /^(\d+)(\w+)$/.exec(text) ?? [];
  return Number(count) * (SIZES[unit] ?? 1);
}

/** agent.yaml can't be used as it is. One line a problem, with file, line and column. */
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
        `${file}: others can write this file, and so decide who is trusted. Run: chmod go-w ${file}`,
      );
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${file}: can't be read: ${(error as Error).message}. Give the right file with --config.`);
  }
  return parseConfig(text, file);
}

/** As {@link readConfig}, from text. */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    strict: true,
    schema: 'core',
    prettyErrors: false,
  });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}:${lines.linePos(offset).col}`;
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(error => `${at(error.pos[0])}: ${error.message.split('\n')[0]}`).join('\n'),
    );
  }
  const result = Config.safeParse(document.toJS({ maxAliasCount: 20 }) ?? {});
  if (result.success) return result.data;
  const problems = result.error.issues.map(issue => {
    let node: unknown;
    for (let length = issue.path.length; length >= 0 && !isNode(node); length--) {
      node = length === 0 ? document.contents : document.getIn(issue.path.slice(0, length), true);
    }
    const where = at(isNode(node) ? (node.range?.[0] ?? 0) : 0);
    const path = issue.path.join('.');
    if (issue.code !== 'unrecognized_keys') return `${where}: ${path}: ${issue.message}`;
    const known = knownKeys(issue.path);
    return issue.keys
      .map(key => {
        const near = nearest(key, known);
        return `${where}: ${path ? `${path}: ` : ''}the key "${key}" is not known. ${near ? `Did you mean "${near}"?` : `Known keys: ${known.join(', ')}.`}`;
      })
      .join('\n');
  });
  throw new ConfigError(problems.join('\n'));
}

/** The JSON Schema of agent.yaml, for editors. */
export function configJsonSchema(): object {
  return { title: 'chatops agent', ...z.toJSONSchema(Config, { io: 'input' }) };
}

/** The keys that the object at `path` may have, read from the schema. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  let schema: unknown = configJsonSchema();
  for (const part of path) {
    const node = schema as { properties?: Record<string, unknown>; items?: unknown };
    schema = typeof part === 'number' ? node.items : node.properties?.[String(part)];
  }
  return Object.keys((schema as { properties?: object } | undefined)?.properties ?? {});
}

/** Host and port of `listen`; brackets around IPv6 as in URLs. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const [, v6, v4, port] = /^(?:\[([0-9a-f:]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = v6 ?? v4 ?? '';
  return isIP(host) === 0 || Number(port) > 65_535 ? undefined : { host, port: Number(port) };
}

/** A list that answers whether an address is in one of the ranges. */
export function addressList(ranges: string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return list;
}

function isAddressRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

/** Keys that decide who is trusted come over TLS, or from this host. */
function isSafeIssuer(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === 'https:' || ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
}
