import { isIP } from 'node:net';
import { z } from 'zod';
import { Duration } from '../../intents/duration.ts';
import { DEFAULT_PORT } from '../../protocol/wire.ts';
import { COMPOSE_GRANTS } from '../plan/plan.ts';
import { Absolute, BackupsConfig, SecretFile } from './backups.ts';
import { findInconsistencies } from './consistency.ts';
import { PRESETS } from './hooks.ts';
import { Channel, NOTICE_EVENTS, SEVERITIES } from './notify.ts';
import { isZone, parseWindow } from './time-windows.ts';
import { ConfigName, NamePattern, TailscaleRules, TrustEntry } from './trust.ts';

const Address = z.string().refine(isAddressRange, { error: 'Expected an address or a range such as "100.64.0.0/10"' });

const Scalar = z.union([z.string(), z.number(), z.boolean()]);
const JsonPath = z.string().regex(/^[\w-]+(\.[\w-]+){0,9}$/, 'Expected a path such as "alerts.0.labels.service"');

/** agent.yaml: whom this host trusts, and what it lets them touch. */
export const Config = z
  .strictObject({
    agent: ConfigName.describe('This agent’s name: the audience of commands and the prefix of the log.'),
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
              stack: NamePattern,
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
        output: z
          .string()
          .regex(/^\d{1,6}(MiB|GiB)$/, 'Expected a size such as "500MiB" or "2GiB"')
          .default('1GiB')
          .describe('What one step may print; one that prints more is stopped.'),
        connections: z.int().min(1).max(10_000).default(100).describe('Open connections in all.'),
        connections_per_address: z.int().min(1).max(10_000).default(20).describe('Open connections of one address.'),
      })
      .default({ concurrent_runs: 4, output: '1GiB', connections: 100, connections_per_address: 20 }),
    verify: z
      .strictObject({
        allow: z
          .array(z.union([z.literal('stack'), Address]))
          .default(['stack', '127.0.0.0/8', '::1/128'])
          .describe('What "verify" may ask: addresses and ranges, and "stack" for the containers of the stack itself.'),
      })
      .default({ allow: ['stack', '127.0.0.0/8', '::1/128'] })
      .describe('Bounds of "verify" in intents, so that an intent can’t probe the network.'),
    backups: BackupsConfig,
    secrets: z
      .strictObject({
        show: z
          .array(NamePattern)
          .default([])
          .describe('Names in env files whose values may be told in logs. The others become stars.'),
      })
      .default({ show: [] }),
    proxmox: z
      .strictObject({
        programs: Absolute.optional().describe(
          'The folder of vzdump, pvesh, pvesm, qm and pct, where the usual ones don’t hold them.',
        ),
        api: z
          .strictObject({
            url: z.url({ protocol: /^https$/ }).describe('https://127.0.0.1:8006'),
            node: ConfigName.describe('This node’s name.'),
            token_file: SecretFile.describe('Its first line: USER@REALM!NAME=UUID.'),
            ca_file: Absolute.optional().describe('Usually /etc/pve/pve-root-ca.pem.'),
          })
          .optional()
          .describe('Backups go through Proxmox’s API, by a token, in place of its programs.'),
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
    doors: z
      .strictObject({
        hosts: z
          .array(z.string().regex(/^[\w.-]+$/, 'Expected a name without a port'))
          .default([])
          .describe(
            'Names by which this agent is called, beside its addresses, its own name and those of the tailnet.',
          ),
        token_file: SecretFile.optional().describe('/metrics and /readyz want this token: "Authorization: Bearer …".'),
        tailscale: TailscaleRules.optional().describe('/metrics and /readyz want such a peer (or the token).'),
      })
      .default({ hosts: [] })
      .describe('Who may read what the HTTP doors tell.'),
    tls: z
      .strictObject({ cert_file: Absolute, key_file: Absolute })
      .optional()
      .describe('Files as "tailscale cert" writes them. They are taken over as they are renewed.'),
    tailscale: z
      .strictObject({
        socket: Absolute.default('/var/run/tailscale/tailscaled.sock').describe('Where tailscaled answers.'),
      })
      .default({ socket: '/var/run/tailscale/tailscaled.sock' })
      .describe('For "tailscale" in trust entries.'),
    github: z
      .strictObject({
        api_url: z
          .url({ protocol: /^https?$/ })
          .refine(isSafeIssuer, { error: 'Expected https (or http on loopback)' })
          .default('https://api.github.com'),
        token_file: SecretFile.describe('A token that can only read: contents, pull requests and actions.'),
      })
      .optional()
      .describe('For "confirm_with_github" in trust entries.'),
    intents_dir: Absolute.default('/etc/chatops/intents').describe('Where intents lie that this host begins itself.'),
    schedules: z
      .array(
        z.strictObject({
          name: ConfigName,
          cron: z.string().min(1).max(200).describe('"0 3 * * *": minute, hour, day, month, weekday.'),
          timezone: z
            .string()
            .refine(isZone, { error: 'Expected a zone such as "Europe/Berlin"' })
            .default('UTC')
            .describe(
              'Summer time is kept: a time that there is not comes at the first one there is, one that comes twice once.',
            ),
          intent: ConfigName.describe('A file in intents_dir, without its ending.'),
          params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).default({}),
          jitter: Duration.optional().describe('Up to so much later, always the same for the same time.'),
          catch_up: z
            .enum(['once', 'none'])
            .default('once')
            .describe('What becomes of times at which the agent was not there: the last of them is seen to, or none.'),
        }),
      )
      .default([])
      .describe('Runs that this host begins itself. What they may do says the trust entry with "local: schedule".'),
    hooks: z
      .array(
        z
          .strictObject({
            name: ConfigName,
            intent: ConfigName.describe('A file in intents_dir, without its ending.'),
            preset: z
              .enum(Object.keys(PRESETS) as [keyof typeof PRESETS])
              .default('generic')
              .describe('Whose payload it is.'),
            on: z
              .array(z.string())
              .min(1)
              .optional()
              .describe('Events of the preset: down, up; firing, resolved; published, updated.'),
            hmac_file: SecretFile.optional().describe('The secret of X-Hub-Signature-256.'),
            token_file: SecretFile.optional().describe('"Authorization: Bearer …".'),
            path_file: SecretFile.optional().describe('The end of the address: /hooks/NAME/SECRET.'),
            when: z
              .array(
                z.strictObject({
                  path: JsonPath,
                  is: z.union([z.array(Scalar).min(1), Scalar.transform(one => [one])]),
                }),
              )
              .default([])
              .describe('What the payload must say beside; otherwise it is ignored.'),
            params: z
              .record(
                z.string(),
                z.union([
                  Scalar,
                  z.strictObject({
                    from: JsonPath,
                    pattern: z.string().min(1).max(500).refine(isPattern, { error: 'Expected a regular expression' }),
                  }),
                ]),
              )
              .default({})
              .describe('Fixed, or taken from the payload where it fits the pattern as a whole.'),
            cooldown: Duration.default('5m').describe('So long after a run no other begins.'),
            max_per_hour: z.int().min(1).max(1000).default(6),
          })
          .refine(
            hook => [hook.hmac_file, hook.token_file, hook.path_file].filter(one => one !== undefined).length === 1,
            {
              error: 'Expected one of hmac_file, token_file and path_file',
            },
          )
          .refine(({ preset, on }) => on?.every(event => event in (PRESETS[preset]?.events ?? {})) ?? true, {
            error: 'Expected events of the preset',
            path: ['on'],
          }),
      )
      .default([])
      .describe('POST /hooks/NAME begins a run. What they may do says the trust entry with "local: webhook".'),
    notify: z
      .strictObject({
        channels: z.array(Channel).default([]),
        rules: z
          .array(
            z.strictObject({
              channels: z.array(ConfigName).min(1),
              on: z.array(z.enum(NOTICE_EVENTS)).min(1).optional().describe('Which events. Default: all.'),
              stacks: z.array(NamePattern).min(1).optional().describe('Only what is about one of these stacks.'),
              min_severity: z.enum(SEVERITIES).optional(),
            }),
          )
          .default([]),
        fold: Duration.default('1h').describe('Repeats of the same trouble within this time are counted, not told.'),
        quiet_hours: z
          .string()
          .refine(text => parseWindow(text) !== undefined, { error: 'Expected "22:00-07:00 Europe/Berlin"' })
          .optional()
          .describe('Meanwhile only errors are told; the rest waits until the end of it.'),
      })
      .default({ channels: [], rules: [], fold: '1h' })
      .describe('Who is told what.'),
    trust: z.array(TrustEntry).min(1).describe('Who may send commands, and what they may do.'),
  })
  .superRefine((config, context) => {
    for (const { path, message } of findInconsistencies(config)) context.addIssue({ code: 'custom', path, message });
  });
export type Config = z.infer<typeof Config>;

/** Host and port of `listen`; brackets around IPv6 as in URLs. */
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

/** Keys that decide who is trusted come over TLS, or from this host. */
function isSafeIssuer(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === 'https:' || ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
}

function isPattern(text: string): boolean {
  try {
    new RegExp(text, 'v');
    return true;
  } catch {
    return false;
  }
}
