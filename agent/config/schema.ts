import { isIP } from 'node:net';
import { z } from 'zod';
import { Duration } from '../../intents/duration.ts';
import { DEFAULT_PORT } from '../../protocol/wire.ts';
import { Absolute, BackupsConfig, SecretFile } from './backups.ts';
import { ComposeLimits, findComposeInconsistencies } from './compose-limits.ts';
import { findInconsistencies } from './consistency.ts';
import { Hook } from './hooks.ts';
import { NotifyConfig } from './notify.ts';
import { Schedule } from './schedules.ts';
import { ConfigName, NamePattern, TailscaleRules, TrustEntry } from './trust.ts';

const Address = z.string().refine(isAddressRange, { error: 'Expected an address or a range such as "100.64.0.0/10"' });
/** `2GiB`, read by `parseSize`. */
const Size = z.string().regex(/^\d{1,6}(MiB|GiB)$/, 'Expected a size such as "500MiB" or "2GiB"');

/** agent.yaml: the senders that this host trusts, and the limits of each. */
export const Config = z
  .strictObject({
    agent: ConfigName.describe('The name of this agent: the audience of commands and the prefix of the log.'),
    listen: z
      .string()
      .refine(text => parseListen(text) !== undefined, { error: 'Expected one address and port: "100.64.0.7:8000"' })
      .default(`127.0.0.1:${DEFAULT_PORT}`)
      .describe('The one address and port to listen on.'),
    state_dir: Absolute.default('/var/lib/chatops').describe(
      'The folder with the agent’s key, its database, its audit log and the runs.',
    ),
    allow_from: z
      .array(Address)
      .min(1)
      .default(['100.64.0.0/10', 'fd7a:115c:a1e0::/48', '127.0.0.0/8', '::1/128'])
      .describe('Addresses that may connect. Default: Tailscale’s ranges and loopback.'),
    rate_limit: z
      .strictObject({ commands: z.int().min(1).max(100_000).default(10), per: Duration.default('1m') })
      .default({ commands: 10, per: '1m' })
      .describe('The most connections that an address may open in a time.'),
    stacks: z
      .strictObject({
        root: Absolute.default('/opt/stacks').describe('Each folder in it is a stack.'),
        switch_folders: z
          .array(z.strictObject({ stack: NamePattern, folder: Absolute }))
          .default([])
          .describe(
            'Folders in which blue-green rollouts of these stacks may write their "switch.file", in addition to their own.',
          ),
      })
      .default({ root: '/opt/stacks', switch_folders: [] }),
    docker: z
      .strictObject({
        socket: Absolute.default('/var/run/docker.sock'),
        command: z
          .string()
          .regex(/^(\/|[a-z])[\w./-]*$/, 'Expected a program’s name or absolute path')
          .default('docker'),
        config_dir: Absolute.optional().describe('DOCKER_CONFIG: the folder with the registry logins.'),
      })
      .default({ socket: '/var/run/docker.sock', command: 'docker' }),
    compose: ComposeLimits,
    limits: z
      .strictObject({
        concurrent_runs: z.int().min(1).max(100).default(4).describe('Concurrent runs (of different stacks).'),
        output: Size.default('1GiB').describe('The most output of a step; the agent stops a step that prints more.'),
        connections: z
          .int()
          .min(1)
          .max(10_000)
          .default(100)
          .describe('Open connections in total; at most half of them without an authenticated sender.'),
        connections_per_address: z.int().min(1).max(10_000).default(20).describe('Open connections of one address.'),
      })
      .default({ concurrent_runs: 4, output: '1GiB', connections: 100, connections_per_address: 20 }),
    verify: z
      .strictObject({
        allow: z
          .array(z.union([z.literal('stack'), Address]))
          .default(['stack', '127.0.0.0/8', '::1/128'])
          .describe('Targets of "verify": addresses and ranges, and "stack" for the containers of the stack itself.'),
        settle: Duration.default('2s').describe(
          'A container without a health check counts as healthy after it has been running for this long.',
        ),
      })
      .default({ allow: ['stack', '127.0.0.0/8', '::1/128'], settle: '2s' })
      .describe(
        'Addresses that "verify" in intents may request, so that it can’t probe the network, and settings of checks.',
      ),
    backups: BackupsConfig,
    secrets: z
      .strictObject({
        show: z
          .array(NamePattern)
          .default([])
          .describe('Names of variables whose values may appear in logs, although they are likely secrets.'),
        hide: z
          .array(NamePattern)
          .default([])
          .describe('Names of variables whose values are redacted, although they are likely no secrets.'),
      })
      .default({ show: [], hide: [] }),
    proxmox: z
      .strictObject({
        programs: Absolute.optional().describe(
          'The folder of vzdump, pvesh, pvesm, qm and pct, if they are not in the usual ones.',
        ),
        api: z
          .strictObject({
            url: z.url({ protocol: /^https$/ }).describe('https://127.0.0.1:8006'),
            node: ConfigName.describe('This node’s name.'),
            token_file: SecretFile.describe('Its first line: USER@REALM!NAME=UUID.'),
            ca_file: Absolute.optional().describe('Usually /etc/pve/pve-root-ca.pem.'),
          })
          .optional()
          .describe('Backups use the Proxmox API with a token, instead of the Proxmox programs.'),
      })
      .default({})
      .describe('For an agent on a Proxmox node.'),
    history: z
      .strictObject({
        keep: Duration.default('365d').describe('The agent deletes runs that ended longer ago.'),
        max_runs: z.int().min(1).default(1_000_000).describe('The agent deletes the oldest runs above this number.'),
        max_size: Size.default('2GiB').describe(
          'The most space for logs and files of runs; above it the agent deletes the oldest runs.',
        ),
      })
      .default({ keep: '365d', max_runs: 1_000_000, max_size: '2GiB' })
      .describe('Limits for the runs that are kept after their end.'),
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
      .describe('The issuer of the tokens that "github" in trust entries describes.'),
    doors: z
      .strictObject({
        hosts: z
          .array(z.string().regex(/^[\w.-]+$/, 'Expected a name without a port'))
          .default([])
          .describe('Host names of this agent, in addition to its addresses, its own name and its tailnet names.'),
        token_file: SecretFile.optional().describe(
          '/metrics and /readyz require this token: "Authorization: Bearer …".',
        ),
        tailscale: TailscaleRules.optional().describe(
          '/metrics and /readyz require such a peer (or the token). What tailscaled says of an address is kept for a second.',
        ),
      })
      .default({ hosts: [] })
      .describe('Access to the HTTP endpoints.'),
    tls: z
      .strictObject({ cert_file: Absolute, key_file: Absolute })
      .optional()
      .describe('Files as "tailscale cert" writes them. The agent loads a renewed certificate by itself.'),
    tailscale: z
      .strictObject({
        socket: Absolute.default('/var/run/tailscale/tailscaled.sock').describe('The socket of tailscaled.'),
      })
      .default({ socket: '/var/run/tailscale/tailscaled.sock' })
      .describe('For "tailscale" in trust entries.'),
    github: z
      .strictObject({
        api_url: z
          .url({ protocol: /^https?$/ })
          .refine(isSafeIssuer, { error: 'Expected https (or http on loopback)' })
          .default('https://api.github.com'),
        token_file: SecretFile.describe('A read-only token: contents, pull requests and actions.'),
      })
      .optional()
      .describe('For "confirm_with_github" in trust entries.'),
    intents_dir: Absolute.default('/etc/chatops/intents').describe(
      'The folder with the intents that this host starts itself.',
    ),
    schedules: z
      .array(Schedule)
      .default([])
      .describe('Runs that this host starts itself. The trust entry with "local: schedule" says what they may do.'),
    hooks: z
      .array(Hook)
      .default([])
      .describe('POST /hooks/NAME starts a run. The trust entry with "local: webhook" says what it may do.'),
    notify: NotifyConfig,
    trust: z.array(TrustEntry).min(1).describe('The senders that may send commands, and the rules for each.'),
  })
  .superRefine((config, context) => {
    for (const { path, message } of [...findInconsistencies(config), ...findComposeInconsistencies(config)])
      context.addIssue({ code: 'custom', path, message });
  });
export type Config = z.infer<typeof Config>;

/** Returns host and port of `listen`, or undefined if the text is not an address and a port. IPv6 stands in brackets, as in URLs. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const [, v6, v4, port] = /^(?:\[([0-9a-f:]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = v6 ?? v4 ?? '';
  return isIP(host) === 0 || Number(port) > 65_535 ? undefined : { host, port: Number(port) };
}

function isAddressRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

/** Returns true for https and for this host: keys that decide who is trusted must not come over an open network. */
function isSafeIssuer(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === 'https:' || ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
}
